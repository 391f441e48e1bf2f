// Reads and writes streams: packets, pages, and O_TRUNC, with which a read returns at the end of a packet.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static char *out, *in;

static void send_packet(int h, size_t length)
{
	CHECK(write(h, out, length) == (ssize_t)length);
}

int main(void)
{
	out = aligned_alloc(4096, 1 << 20);
	in = aligned_alloc(4096, 1 << 20);
	for (int i = 0; i < 1 << 20; i++)
		out[i] = i * 7 + (i >> 12);
	int h = open("/dev/xdma0_h2c_0", O_RDWR), c = open("/dev/xdma0_c2h_0", O_RDWR);
	CHECK(h >= 0 && c >= 0);
	// Only one file can be open at a time. A duplicate keeps it open.
	CHECK(open("/dev/xdma0_c2h_0", O_RDWR) == -1 && errno == EBUSY);
	int d = dup(c);
	close(c);
	CHECK(open("/dev/xdma0_c2h_0", O_RDWR) == -1 && errno == EBUSY);
	close(d);
	c = open("/dev/xdma0_c2h_0", O_RDWR);
	CHECK(c >= 0);

	// Without O_TRUNC, a read fills all of its pages; each packet starts in a new page.
	send_packet(h, 1000);
	send_packet(h, 600);
	memset(in, 0, 8192);
	CHECK(read(c, in, 8192) == 1600);
	CHECK(!memcmp(in, out, 1000) && in[1000] == 0 && !memcmp(in + 4096, out, 600));
	send_packet(h, 8192);
	CHECK(read(c, in, 8192) == 8192 && !memcmp(in, out, 8192));
	send_packet(h, 1000);
	CHECK(read(c, in, 4096) == 1000);
	send_packet(h, 10000);
	CHECK(read(c, in, 4096) == 4096 && read(c, in + 4096, 8192) == 5904 && !memcmp(in, out, 10000));
	// Not enough data for two pages: the call times out, and the packet is not lost.
	send_packet(h, 1000);
	CHECK(read(c, in, 8192) == 1000 || errno == ETIMEDOUT);
	close(c);

	// With O_TRUNC, a read returns at the end of the packet.
	c = open("/dev/xdma0_c2h_0", O_RDWR | O_TRUNC);
	CHECK(c >= 0);
	size_t lengths[] = { 1000, 5000, 8192, 65536, 1 };
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		send_packet(h, lengths[i]);
		memset(in, 0, lengths[i]);
		CHECK(read(c, in, 131072) == (ssize_t)lengths[i] && !memcmp(in, out, lengths[i]));
	}
	// The next packet is not lost.
	send_packet(h, 1000);
	send_packet(h, 5000);
	CHECK(read(c, in, 65536) == 1000 && read(c, in, 65536) == 5000);
	return 0;
}
