// Checks the device files call by call. The argument of main() selects a check; a check that fails prints its line.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "check.h"

#define ADDRMODE_SET 0x40047104
#define ADDRMODE_GET 0x80047105
#define ALIGN_GET 0x80047106
#define INFO 0xc0287801
#define PERF_START 0x40087101
#define PERF_STOP 0x40087102
#define PERF_GET 0x80087103
#define APERTURE_W 0x40087108
#define APERTURE_R 0x40087107
#define OFFLINE 0x7802
#define ONLINE 0x7803
#define PAGE 4096
// Hidden from the compiler, which would warn about the invalid calls.
static void *volatile null;

static char *page(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(p + PAGE, PAGE, PROT_NONE);
	return p;
}

static int file(const char *name, int flags)
{
	int fd = open(name, flags);
	CHECK(fd >= 0);
	return fd;
}

static void check_open(void)
{
	char b[PAGE] = { 0 };
	int h = file("/dev/xdma0_h2c_0", O_RDONLY);
	FAILS(read(h, b, 4), EINVAL);
	FAILS(write(h, b, 4), EBADF);
	int c = file("/dev/xdma0_c2h_0", O_RDWR);
	FAILS(write(c, b, 4), EINVAL);
	int all = open("/dev/xdma0_h2c_0", O_RDWR | O_NONBLOCK | O_TRUNC | O_CREAT, 0600);
	CHECK(all >= 0 && write(all, b, PAGE) == PAGE);
	CHECK((fcntl(h, F_GETFL) & O_ACCMODE) == O_RDONLY && (fcntl(all, F_GETFL) & O_ACCMODE) == O_RDWR);
	CHECK(open("/dev/xdma0_c2h_0", O_RDWR) >= 0);
	CHECK(openat(AT_FDCWD, "/dev/xdma0_c2h_1", O_RDONLY) >= 0);
	FAILS(open("/dev/xdma0_h2c_4", O_RDWR), ENOENT);
	FAILS(open("/dev/xdma7_user", O_RDWR), ENOENT);
}

static void check_position(void)
{
	char a[PAGE], b[PAGE], in[PAGE];
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDONLY);
	memset(a, 'a', PAGE);
	memset(b, 'b', PAGE);
	CHECK(lseek(h, 0x1000, SEEK_SET) == 0x1000);
	CHECK(write(h, a, PAGE) == PAGE && write(h, b, PAGE) == PAGE);
	CHECK(lseek(h, 0, SEEK_CUR) == 0x1000);
	CHECK(pread(c, in, PAGE, 0x1000) == PAGE && !memcmp(in, b, PAGE));
	CHECK(lseek(h, 0, SEEK_END) == 4294967295 && lseek(h, 1, SEEK_END) == 4294967296);
	FAILS(lseek(h, -1, SEEK_SET), EINVAL);
	FAILS(lseek(h, 0, SEEK_DATA), EINVAL);
	CHECK(lseek(h, 1L << 62, SEEK_SET) == 1L << 62);
	const char *others[] = { "/dev/xdma0_user", "/dev/xdma0_control", "/dev/xdma0_events_0" };
	for (int i = 0; i < 3; i++)
		FAILS(lseek(file(others[i], O_RDWR), 0, SEEK_SET), ESPIPE);
}

static void check_zero(void)
{
	char *p = page();
	int h = file("/dev/xdma0_h2c_0", O_RDWR);
	FAILS(pwrite(h, p, 0, 0), EINVAL);
	CHECK(pwrite(h, p + 1, 0, 0) == 0);
	FAILS(pwrite(h, null, 0, 0), EINVAL);
}

static void check_range(void)
{
	char *p = page();
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	FAILS(pwrite(h, p, 4, -1), EINVAL);
	FAILS(pread(c, p, 4, -1), EINVAL);
	FAILS(pwrite(h, p, PAGE, INT64_MAX), EINVAL);
}

static void check_fault(void)
{
	char *p = page(), before[PAGE], after[PAGE];
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	CHECK(pread(c, before, PAGE, 0) == PAGE);
	memset(p, 'x', PAGE);
	FAILS(pwrite(h, p + PAGE, PAGE, 0), EFAULT);
	FAILS(pwrite(h, p + PAGE / 2, PAGE, 0), EFAULT);
	FAILS(pread(c, p + PAGE / 2, PAGE, 0), EFAULT);
	CHECK(pread(c, after, PAGE, 0) == PAGE && !memcmp(before, after, PAGE));
	// A large buffer whose last page is not accessible.
	size_t large = 4 << 20;
	char *l = mmap(NULL, large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(l, 'y', large);
	mprotect(l + large - PAGE, PAGE, PROT_NONE);
	FAILS(pwrite(h, l, large, 0), EFAULT);
	CHECK(pread(c, after, PAGE, 0) == PAGE && !memcmp(before, after, PAGE));
	// Read-only memory is a valid source.
	mprotect(p, PAGE, PROT_READ);
	CHECK(pwrite(h, p, PAGE, 0) == PAGE);
	CHECK(pread(c, after, PAGE, 0) == PAGE && after[0] == 'x');
	FAILS(pread(c, p, PAGE, 0), EFAULT);
	CHECK(pwrite(h, "literal", 7, 0) == 7);
	// Memory that the program unmaps without the C library's function.
	CHECK(pwrite(h, l, PAGE, 0) == PAGE && pwrite(h, l, PAGE, 0) == PAGE);
	CHECK(syscall(SYS_munmap, l, PAGE) == 0);
	FAILS(pwrite(h, l, PAGE, 0), EFAULT);
}

static void check_lengths(void)
{
	size_t n = 16 << 20;
	char *out = malloc(n + 1), *in = malloc(n + 6);
	uint64_t at = (uint64_t)(getpid() % 512) << 26;
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	for (size_t i = 0; i <= n; i++)
		out[i] = i * 31 + (i >> 13);
	CHECK(pwrite(h, out, n, at) == (ssize_t)n && pwrite(h, out + n, 1, at + n) == 1);
	CHECK(pread(c, in + 5, n + 1, at) == (ssize_t)n + 1 && !memcmp(in + 5, out, n + 1));
	CHECK(pwrite(h, out + 3, 1, at + 3) == 1 && pread(c, in, 1, at + 3) == 1 && in[0] == out[3]);
}

static void check_others(void)
{
	char b[PAGE] = { 0 };
	int c = file("/dev/xdma0_c2h_0", O_RDWR), u = file("/dev/xdma0_user", O_RDWR), e = epoll_create1(0), n;
	struct pollfd p = { c, POLLIN | POLLOUT, 0 };
	CHECK(poll(&p, 1, 0) == 1 && p.revents == (POLLIN | POLLOUT));
	struct epoll_event event = { EPOLLIN, { 0 } };
	FAILS(epoll_ctl(e, EPOLL_CTL_ADD, c, &event), EPERM);
	FAILS(fsync(c), EINVAL);
	FAILS(fdatasync(c), EINVAL);
	FAILS(ftruncate(c, 0), EINVAL);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, c, 0), ENODEV);
	struct termios t;
	FAILS(ioctl(c, TCGETS, &t), EINVAL);
	FAILS(ioctl(c, FIONREAD, &n), EINVAL);
	FAILS(ioctl(c, 0x7109, &n), EINVAL);
	CHECK(ioctl(c, FIONBIO, &(int){ 1 }) == 0);
	FAILS(ioctl(u, TCGETS, &t), ENOTTY);
	FAILS(ioctl(u, 0x7809, &n), ENOTTY);
	CHECK(!isatty(c));
	int plain = memfd_create("plain", 0);
	CHECK(write(plain, b, PAGE) == PAGE);
	FAILS(sendfile(c, plain, &(off_t){ 0 }, PAGE), EINVAL);
	FAILS(copy_file_range(plain, NULL, c, NULL, PAGE, 0), EINVAL);
	struct stat s;
	CHECK(fstat(c, &s) == 0 && S_ISCHR(s.st_mode) && s.st_size == 0 && s.st_blksize == 4096 && (s.st_rdev & 255) == 36);
	CHECK(stat("/dev/xdma0_h2c_2", &s) == 0 && (s.st_rdev & 255) == 34);
	CHECK(access("/dev/xdma0_user", R_OK | W_OK) == 0 && access("/dev/xdma0_h2c_4", F_OK) == -1);
}

static void check_vectors(void)
{
	char a[PAGE], b[PAGE], in[2 * PAGE];
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	memset(a, 'a', PAGE);
	memset(b, 'b', PAGE);
	struct iovec v[] = { { a, PAGE }, { b, PAGE } };
	CHECK(pwritev(h, v, 2, 0) == 2 * PAGE && pread(c, in, 2 * PAGE, 0) == 2 * PAGE);
	CHECK(!memcmp(in, a, PAGE) && !memcmp(in + PAGE, b, PAGE));
	CHECK(lseek(h, 0x8000, SEEK_SET) == 0x8000 && writev(h, v, 2) == 2 * PAGE);
	CHECK(pread(c, in, 2 * PAGE, 0x8000) == 2 * PAGE && in[PAGE] == 'b' && lseek(h, 0, SEEK_CUR) == 0x8000);
	struct iovec r[] = { { in, 1 }, { in + 1, 2 * PAGE - 1 } };
	memset(in, 0, sizeof(in));
	CHECK(preadv(c, r, 2, 0x8000) == 2 * PAGE && in[0] == 'a' && in[2 * PAGE - 1] == 'b');
}

static void check_ioctls(void)
{
	int h = file("/dev/xdma0_h2c_0", O_RDWR), other = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	int value = 1;
	char b[8192] = { 1 };
	CHECK(ioctl(h, ADDRMODE_SET, &value) == 0);
	value = 7;
	CHECK(ioctl(other, ADDRMODE_GET, &value) == 0 && value == 1);
	FAILS(ioctl(h, ADDRMODE_SET, 1), EFAULT);
	CHECK(pwrite(h, b, sizeof(b), 0) == sizeof(b));
	// Every part of a large call uses the same fixed address.
	static char large[3 << 20], kept[64] = { 5 }, seen[64];
	CHECK(pwrite(file("/dev/xdma0_h2c_1", O_WRONLY), kept, sizeof(kept), 0x100000) == sizeof(kept));
	CHECK(pwrite(h, large, sizeof(large), 0) == sizeof(large));
	CHECK(pread(c, seen, sizeof(seen), 0x100000) == sizeof(seen) && !memcmp(seen, kept, sizeof(kept)));
	value = 0;
	CHECK(ioctl(h, ADDRMODE_SET, &value) == 0 && ioctl(c, ALIGN_GET, &value) == 0 && value == 1);
	FAILS(ioctl(c, ALIGN_GET, NULL), EFAULT);
	FAILS(ioctl(file("/dev/xdma0_events_0", O_RDWR), ALIGN_GET, &value), ENOTTY);
}

static void check_perf(void)
{
	char b[PAGE] = { 0 };
	struct {
		uint32_t version, size, stopped, iterations;
		uint64_t clock, data, pending;
	} perf = { .version = 1, .size = PAGE }, seen = { 0 };
	int h = file("/dev/xdma0_h2c_0", O_RDWR);
	FAILS(ioctl(h, PERF_GET, &seen), EPROTO);
	FAILS(ioctl(h, PERF_STOP, &seen), EINVAL);
	perf.version = 2;
	FAILS(ioctl(h, PERF_START, &perf), EINVAL);
	perf.version = 1;
	perf.size = (4 << 20) + 1;
	FAILS(ioctl(h, PERF_START, &perf), EINVAL);
	perf.size = PAGE;
	CHECK(ioctl(h, PERF_START, &perf) == 0);
	FAILS(ioctl(h, PERF_START, &perf), EBUSY);
	FAILS(pwrite(h, b, PAGE, 0), EBUSY);
	usleep(300000);
	// The run continues after the file is closed.
	close(h);
	h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(ioctl(h, PERF_GET, &seen) == 0 && seen.size == PAGE && seen.iterations > 0);
	CHECK(seen.data > 0 && seen.data <= seen.clock && seen.stopped == 0);
	uint64_t before = seen.data;
	CHECK(ioctl(h, PERF_STOP, &seen) == 0 && seen.data >= before);
	CHECK(pwrite(h, b, PAGE, 0) == PAGE);
}

static void check_aperture(void)
{
	static char out[4 * PAGE], in[2 * PAGE];
	struct {
		uint64_t card;
		uint32_t size, pad;
		uint64_t buffer, length;
		int32_t error;
		uint64_t done;
	} a = { .card = 0x20000, .size = PAGE, .buffer = (uint64_t)out, .length = sizeof(out) };
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	memset(in, 9, sizeof(in));
	CHECK(pwrite(h, in, 2 * PAGE, 0x20000) == 2 * PAGE);
	for (int i = 0; i < 4; i++)
		memset(out + i * PAGE, i + 1, PAGE);
	CHECK(ioctl(h, APERTURE_W, &a) == 0 && a.error == 0 && a.done == sizeof(out));
	CHECK(pread(c, in, 2 * PAGE, 0x20000) == 2 * PAGE && in[0] == 4 && in[PAGE] == 9);
	CHECK(ioctl(c, APERTURE_R, &a) == 0 && out[0] == 4 && out[3 * PAGE] == 4);
	FAILS(ioctl(h, APERTURE_R, &a), EINVAL);
	a.size = 0;
	FAILS(ioctl(h, APERTURE_W, &a), EINVAL);
}

static void check_offline(void)
{
	char b[PAGE] = { 0 };
	int u = file("/dev/xdma0_user", O_RDWR), k = file("/dev/xdma0_control", O_RDWR), h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(ioctl(u, OFFLINE) == 0);
	FAILS(pwrite(h, b, PAGE, 0), EBUSY);
	CHECK(pread(k, b, 4, 0) == 4 && ioctl(u, ONLINE) == 0 && pwrite(h, b, PAGE, 0) == PAGE);
}

static void check_registers(void)
{
	uint32_t a, b, four[4] = { 0, 1, 1, 1 };
	const char *bar_size = getenv("XDMA_TEST_BAR_SIZE"); // the BAR with the registers
	int k = file("/dev/xdma0_control", O_RDWR);
	CHECK(read(k, &a, 4) == 4 && read(k, &b, 4) == 4 && a >> 16 == 0x1fc0 && a != b);
	CHECK(pread(k, four, 16, 0) == 4 && four[0] == a && four[1] == 1);
	struct iovec v[] = { { &four[2], 4 }, { &four[3], 4 } };
	CHECK(preadv(k, v, 2, 0) == 8 && four[2] == a && four[3] == b);
	struct iovec w[] = { { four, 8 }, { &four[3], 4 } };
	CHECK(preadv(k, w, 2, 0) == 4);
	four[0] = 5;
	FAILS(pread(k, four, 0, 0), EINVAL);
	CHECK(four[0] == 5);
	FAILS(pread(k, four, 4, 2), EPROTO);
	FAILS(pread(k, four, 4, 1L << 40), EINVAL);
	FAILS(pread(k, four, 4, bar_size ? atol(bar_size) : 65536), EINVAL);
	FAILS(pread(k, null, 4, 0), EFAULT);
	int u = file("/dev/xdma0_user", O_RDWR);
	FAILS(pwrite(u, four, 4, 1), EPROTO);
	FAILS(pwrite(u, four, 1, 0), EINVAL);
	FAILS(pwrite(u, null, 4, 0), EFAULT);
	CHECK(pwrite(u, four, 4, 0) == 4);
}

static void check_info(void)
{
	int u = file("/dev/xdma0_user", O_RDWR);
	uint32_t info[10] = { 0 };
	FAILS(ioctl(u, INFO, info), ENOTTY);
	info[0] = 0x586c0c6c;
	CHECK(ioctl(u, INFO, info) == 0 && info[2] == 0xf0011d0f && info[5] == 2025200 && info[0] == 0);
	FAILS(ioctl(u, INFO, info), ENOTTY);
	FAILS(ioctl(u, INFO, NULL), EFAULT);
}

static void check_maps(void)
{
	int u = file("/dev/xdma0_user", O_RDWR);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, u, 0), ENODEV);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file("/dev/xdma0_events_1", O_RDWR), 0), ENODEV);
}

// The tests in the virtual machines map the BAR.
static void check_bypass(void)
{
	uint32_t four[4] = { 1, 2, 3, 4 };
	struct stat status;
	int b = file("/dev/xdma0_bypass", O_RDWR);
	FAILS(read(b, four, 4), EINVAL);
	FAILS(write(b, four, 4), EINVAL);
	FAILS(lseek(b, 0, SEEK_SET), ESPIPE);
	FAILS(ioctl(b, INFO, four), ENOTTY);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, b, 0), ENODEV);
	CHECK(fstat(b, &status) == 0 && S_ISCHR(status.st_mode) && minor(status.st_rdev) == 100);
	int h = file("/dev/xdma0_bypass_h2c_0", O_RDWR), c = file("/dev/xdma/card0/bypass_c2h1", O_RDWR);
	FAILS(read(h, four, 3), EINVAL);
	CHECK(read(h, four, 4) == 0 && read(c, four, 16) == 0 && four[0] == 1);
	FAILS(write(h, four, 3), EINVAL);
	FAILS(write(h, null, 4), EINVAL);
	FAILS(write(h, page() + PAGE, 4), EFAULT);
	CHECK(write(h, four, 8) == 8 && write(h, four, 0) == 0 && pwrite(c, four, 16, 1 << 20) == 16);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, h, 0), ENODEV);
	FAILS(open("/dev/xdma0_bypass_h2c_4", O_RDWR), ENOENT);
	FAILS(open("/sys/bus/pci/devices/ffff:ff:1f.7/resource0", O_RDWR), ENOENT);
	int r = file("/sys/class/xdma/xdma0_control/device/resource2", O_RDWR);
	CHECK(fstat(r, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 65536);
	CHECK(lseek(r, 0, SEEK_END) == 65536 && lseek(r, 4, SEEK_SET) == 4);
	FAILS(read(r, four, 4), EIO);
	FAILS(write(r, four, 4), EIO);
	FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r, 0), ENODEV);
	FAILS(open("/sys/class/xdma/xdma0_control/device/resource5", O_RDWR), ENOENT);
}

static void check_descriptors(void)
{
	char b[16] = "descriptors";
	int h = file("/dev/xdma0_h2c_0", O_RDWR), d = dup(h), e = fcntl(h, F_DUPFD, 700), plain = memfd_create("plain", 0);
	CHECK(d >= 0 && e >= 700);
	CHECK(lseek(d, 0x5000, SEEK_SET) == 0x5000 && lseek(e, 0, SEEK_CUR) == 0x5000);
	CHECK(close(h) == 0);
	FAILS(pwrite(h, b, 16, 0), EBADF);
	CHECK(pwrite(d, b, 16, 0) == 16);
	// A plain file replaces a device file, and the other way round.
	CHECK(dup2(plain, d) == d && write(d, b, 16) == 16 && lseek(plain, 0, SEEK_CUR) == 16);
	CHECK(dup2(e, plain) == plain && lseek(plain, 0, SEEK_CUR) == 0x5000);
	CHECK(dup2(e, 0) == 0 && write(0, b, 16) == 16);
}

// A program that closes all file descriptors keeps working.
static void check_closed(void)
{
	char b[16] = "closed";
	int h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(pwrite(h, b, 16, 0) == 16);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(pwrite(h, b, 16, 0) == 16);
	close_range(3, ~0u, 0);
	h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(pwrite(h, b, 16, 0) == 16);
}

static int count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;
	CHECK(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

// `dup2` onto any number that a program is likely to choose, and opening a file often.
static void check_numbers(void)
{
	char b[PAGE] = "numbers";
	int h = file("/dev/xdma0_h2c_0", O_RDWR), value = 0, count;
	CHECK(pwrite(h, b, PAGE, 0) == PAGE);
	count = count_descriptors();
	for (int i = 0; i < 3000; i++) {
		int c = file("/dev/xdma0_c2h_0", O_RDONLY);
		CHECK(close(c) == 0);
		value = i % 100 == 0;
		CHECK(i % 50 || (ioctl(h, ADDRMODE_SET, &value) == 0 && pwrite(h, b, PAGE, 0) == PAGE));
	}
	// The other side closes its end of a file later.
	CHECK(count_descriptors() <= count + 4);
	for (int fd = 3; fd < 300; fd++)
		CHECK(fd == h || dup2(2, fd) == fd);
	CHECK(pwrite(h, b, PAGE, 0) == PAGE);
}

static int at_exit;

static void write_at_exit(void)
{
	CHECK(pwrite(at_exit, "exit", 4, 0x9000) == 4);
}

// Data that a program leaves in the buffer of a stream, or writes in a function that it registered before it opened the file.
static void check_exit(void)
{
	atexit(write_at_exit);
	at_exit = file("/dev/xdma0_h2c_0", O_WRONLY);
	FILE *f = fopen("/dev/xdma0_h2c_1", "w");
	CHECK(f && fseek(f, 0x8000, SEEK_SET) == 0 && fputs("stream", f) >= 0);
}

static void check_exited(void)
{
	char b[6];
	int c = file("/dev/xdma0_c2h_0", O_RDONLY);
	CHECK(pread(c, b, 6, 0x8000) == 6 && !memcmp(b, "stream", 6));
	CHECK(pread(c, b, 4, 0x9000) == 4 && !memcmp(b, "exit", 4));
}

static void check_exec(void)
{
	char number[16], in[4];
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR | O_CLOEXEC);
	CHECK(lseek(h, 0x7000, SEEK_SET) == 0x7000);
	snprintf(number, sizeof(number), "%d", h);
	pid_t child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "calls", "inherited", number, NULL);
		_exit(99);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(pread(c, in, 4, 0x7000) == 4 && !memcmp(in, "exec", 4));
	CHECK(lseek(h, 0, SEEK_CUR) == 0x7100);
}

static void check_inherited(int fd)
{
	CHECK(lseek(fd, 0, SEEK_CUR) == 0x7000 && write(fd, "exec", 4) == 4 && lseek(fd, 0x100, SEEK_CUR) == 0x7100);
}

static void nothing(int signal)
{
	(void)signal;
}

static void alarm_in(int milliseconds, int flags)
{
	struct sigaction action = { .sa_handler = nothing, .sa_flags = flags };
	sigaction(SIGALRM, &action, NULL);
	struct itimerval timer = { { 0, 0 }, { milliseconds / 1000, milliseconds % 1000 * 1000 } };
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void check_events(void)
{
	uint32_t value[2] = { 0 };
	int e = file("/dev/xdma0_events_0", O_RDWR | O_NONBLOCK);
	struct pollfd p = { e, POLLIN, 0 };
	CHECK(poll(&p, 1, 0) == 0);
	FAILS(read(e, value, 8), EPROTO);
	FAILS(read(e, value, 0), EPROTO);
	FAILS(pread(e, value, 4, 2), EPROTO);
	FAILS(write(e, value, 4), EINVAL);
	alarm_in(200, 0);
	FAILS(read(e, value, 4), EINTR);
	// Interrupts before the file is opened count, and several interrupts are one event.
	int u = file("/dev/xdma0_user", O_RDWR);
	uint32_t raise = 1 << 3, lower = 0;
	for (int i = 0; i < 3; i++) {
		CHECK(pwrite(u, &raise, 4, 0xd00) == 4 && pwrite(u, &lower, 4, 0xd00) == 4);
		usleep(20000);
	}
	int first = file("/dev/xdma0_events_3", O_RDONLY), second = file("/dev/xdma0_events_3", O_RDONLY);
	struct pollfd both[] = { { first, POLLIN, 0 }, { second, POLLIN, 0 } };
	CHECK(poll(both, 2, 2000) == 2 && both[0].revents == POLLIN);
	CHECK(read(first, value, 4) == 4 && value[0] == 1 && poll(both, 2, 0) == 0);
	int ep = epoll_create1(0);
	struct epoll_event watched = { EPOLLIN | EPOLLET, { 0 } };
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, second, &watched) == 0 && epoll_wait(ep, &watched, 1, 0) == 0);
	CHECK(pwrite(u, &raise, 4, 0xd00) == 4 && epoll_wait(ep, &watched, 1, 2000) == 1);
	FAILS(read(second, null, 4), EFAULT);
	CHECK(read(second, value, 4) == 4 && value[0] == 1);
	FAILS(lseek(e, 0, SEEK_SET), ESPIPE);
}

static void check_timeout(void)
{
	char b[PAGE];
	FAILS(pread(file("/dev/xdma0_c2h_0", O_RDWR), b, PAGE, 0), ETIMEDOUT);
}

static void check_failure(void)
{
	char b[PAGE] = { 0 };
	FAILS(pwrite(file("/dev/xdma0_h2c_0", O_RDWR), b, PAGE, 0), EIO);
}

static void check_interrupted(void)
{
	char b[PAGE];
	int c = file("/dev/xdma0_c2h_0", O_RDWR);
	alarm_in(300, 0);
	FAILS(pread(c, b, PAGE, 0), EINTR);
}

static void check_restarted(void)
{
	char b[PAGE];
	int c = file("/dev/xdma0_c2h_0", O_RDWR);
	alarm_in(300, SA_RESTART);
	CHECK(pread(c, b, PAGE, 0) == PAGE);
}

static void *read_again(void *fd)
{
	static char b[PAGE];
	while (pread(*(int *)fd, b, PAGE, 0) != 0)
		;
	return NULL;
}

static void *write_again(void *fd)
{
	static char b[1 << 20];
	while (pwrite(*(int *)fd, b, sizeof(b), 0) == sizeof(b))
		;
	return NULL;
}

// Threads that are cancelled while they wait, and in any part of a call.
static void check_cancelled(void)
{
	char b[PAGE] = { 0 };
	int c = file("/dev/xdma0_c2h_0", O_RDWR), h = file("/dev/xdma0_h2c_0", O_RDWR);
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		void *result;
		CHECK(pthread_create(&thread, NULL, i ? write_again : read_again, i ? &h : &c) == 0);
		usleep(i ? 3000 + 500 * i : 300000);
		CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
		CHECK(pwrite(h, b, PAGE, 0) == PAGE);
	}
	CHECK(pread(c, b, PAGE, 0) == PAGE);
}

// Memory that the C library unmaps when it is freed.
static void check_freed(void)
{
	int h = file("/dev/xdma0_h2c_0", O_RDWR), c = file("/dev/xdma0_c2h_0", O_RDWR);
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 17));
	for (int moves = 0; moves < 2; moves++) {
		char *volatile b = malloc(1 << 20), *volatile old = b;
		memset(b, 'z', 1 << 20);
		for (int i = 0; i < 2; i++)
			CHECK(pwrite(h, b, PAGE, 0) == PAGE && pread(c, b, PAGE, 0) == PAGE);
		if (moves)
			CHECK((b = realloc(b, 1 << 30)));
		else
			free(b);
		if (b == old && moves)
			continue; // it grew where it was
		FAILS(pwrite(h, old, PAGE, 0), EFAULT);
		FAILS(pread(c, old, PAGE, 0), EFAULT);
	}
}

#define THREADS 1100
static pthread_barrier_t all;

static void *read_with_all(void *fd)
{
	char b[PAGE];
	CHECK(pread(*(int *)fd, b, PAGE, 0) == PAGE);
	pthread_barrier_wait(&all);
	return NULL;
}

// More threads than there were connections in earlier versions, all of them at the same time.
static void check_many(void)
{
	static pthread_t threads[THREADS];
	struct rlimit limit;
	int c = file("/dev/xdma0_c2h_0", O_RDWR);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max >= 2048);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	pthread_attr_t small;
	CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 1 << 17) == 0);
	CHECK(pthread_barrier_init(&all, NULL, THREADS) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], &small, read_with_all, &c) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *write_as_other(void *fd)
{
	static char b[PAGE];
	CHECK(pwrite(*(int *)fd, b, PAGE, 0) == PAGE);
	return NULL;
}

// A thread whose first call follows a change of the user.
static void check_user(void)
{
	pthread_t thread;
	int h = file("/dev/xdma0_h2c_0", O_RDWR);
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(pthread_create(&thread, NULL, write_as_other, &h) == 0 && pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*check)(void);
	} checks[] = {
		{ "open", check_open }, { "position", check_position }, { "zero", check_zero }, { "range", check_range },
		{ "fault", check_fault }, { "lengths", check_lengths }, { "others", check_others }, { "vectors", check_vectors },
		{ "ioctls", check_ioctls }, { "perf", check_perf }, { "aperture", check_aperture }, { "offline", check_offline }, { "registers", check_registers }, { "info", check_info }, { "maps", check_maps }, { "bypass", check_bypass },
		{ "descriptors", check_descriptors }, { "closed", check_closed }, { "numbers", check_numbers }, { "exit", check_exit }, { "exited", check_exited }, { "exec", check_exec }, { "events", check_events }, { "timeout", check_timeout },
		{ "failure", check_failure }, { "interrupted", check_interrupted }, { "freed", check_freed }, { "many", check_many }, { "user", check_user }, { "restarted", check_restarted }, { "cancelled", check_cancelled },
	};
	if (argc == 3 && !strcmp(argv[1], "inherited")) {
		check_inherited(atoi(argv[2]));
		return 0;
	}
	for (unsigned i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		if (argc == 2 && !strcmp(argv[1], checks[i].name)) {
			checks[i].check();
			return 0;
		}
	return 2;
}
