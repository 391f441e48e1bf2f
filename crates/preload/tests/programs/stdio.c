// C library streams on device files.
#include <stdio.h>
#include <string.h>

static char out[8192], in[8192];

int main(void)
{
	memset(out, 0x5a, sizeof(out));
	FILE *w = fopen("/dev/xdma0_h2c_0", "w"), *r = fopen("/dev/xdma0_c2h_0", "r");
	if (!w || !r)
		return 1;
	setvbuf(w, NULL, _IONBF, 0);
	setvbuf(r, NULL, _IONBF, 0);
	if (fseek(w, 0x4000, SEEK_SET) || fwrite(out, 1, sizeof(out), w) != sizeof(out))
		return 2;
	if (fseek(r, 0x4000, SEEK_SET) || fread(in, 1, sizeof(in), r) != sizeof(in))
		return 3;
	if (memcmp(in, out, sizeof(in)))
		return 4;
	if (fclose(w) || fclose(r))
		return 5;
	return fopen("/dev/xdma0_h2c_9", "r") ? 6 : 0;
}
