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
	// Buffered streams transfer whole blocks in one call, as on a plain file.
	for (int at = 0; at < (int)sizeof(out); at++)
		out[at] = at * 7 + (at >> 10);
	w = fopen("/dev/xdma0_h2c_1", "w"), r = fopen("/dev/xdma0_c2h_1", "r");
	if (!w || !r || fseek(w, 0x8000, SEEK_SET) || fwrite(out, sizeof(out), 1, w) != 1 || fclose(w))
		return 7;
	if (fseek(r, 0x8000, SEEK_SET) || fread(in, sizeof(in), 1, r) != 1 || memcmp(in, out, sizeof(in)))
		return 8;
	if (ftell(r) != 0x8000 + sizeof(in))
		return 9;
	// A small read fills the buffer with one block, and reads that follow take the rest of it first.
	memset(in, 0, sizeof(in));
	if (fseek(r, 0x8000, SEEK_SET) || fread(in, 1, 100, r) != 100 || fread(in + 100, 1, 3996, r) != 3996)
		return 10;
	if (memcmp(in, out, 4096) || ftell(r) != 0x9000 || fclose(r))
		return 11;
	w = fopen("/dev/xdma0_h2c_1", "r");
	if (!w || fread(in, 1, sizeof(in), w) || !ferror(w) || fclose(w))
		return 12;
	// Standard streams can become device files.
	if (freopen("/dev/xdma0_h2c_1", "w", w = fopen("/dev/null", "w")) || fclose(w))
		return 13;
	if (!freopen("/dev/xdma0_h2c_1", "w", stdout) || printf("printed") != 7 || fflush(stdout))
		return 14;
	if (!freopen("/dev/xdma0_c2h_1", "r", stdin) || fread(in, 1, 7, stdin) != 7 || memcmp(in, "printed", 7))
		return 15;
	return fopen("/dev/xdma0_h2c_9", "r") ? 6 : 0;
}
