// Searches of /dev with functions of the C library.
#define _GNU_SOURCE
#include <dirent.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

static int is_h2c(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "xdma0_h2c_", 10);
}

int main(void)
{
	glob_t found;
	if (glob("/dev/xdma?_c2h_*", 0, NULL, &found) || found.gl_pathc != 4 || strcmp(found.gl_pathv[2], "/dev/xdma0_c2h_2"))
		return 1;
	globfree(&found);
	if (glob("/dev/xdma0_user", 0, NULL, &found) || found.gl_pathc != 1)
		return 2;
	globfree(&found);
	if (glob("/dev/nul[k-m]", 0, NULL, &found) || found.gl_pathc != 1 || glob("/dev/xdma9*", 0, NULL, &found) != GLOB_NOMATCH)
		return 3;
	struct dirent **entries;
	if (scandir("/dev", &entries, is_h2c, alphasort) != 4 || strcmp(entries[0]->d_name, "xdma0_h2c_0") || entries[3]->d_type != DT_CHR)
		return 4;
	for (int at = 0; at < 4; at++)
		free(entries[at]);
	free(entries);
	if (scandir("/", &entries, is_h2c, NULL) != 0 || scandir("/dev/xdma", &entries, NULL, NULL) != -1)
		return 5;
	DIR *dev = opendir("/dev");
	int count = 0;
	for (int pass = 0; pass < 2; pass++, rewinddir(dev))
		for (struct dirent *entry; (entry = readdir(dev));)
			count += is_h2c(entry);
	return closedir(dev) || count != 8 ? 6 : 0;
}
