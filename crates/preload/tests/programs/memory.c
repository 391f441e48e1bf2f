// Checks memory that programs allocate, map and inherit. The argument of main() selects a check.
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PAGE 4096
// The C library maps and unmaps each block of this size.
#define LARGE (40UL << 20)
// So that the compiler removes no call.
static void *volatile kept;

static void *keep(void *block)
{
	return kept = block;
}

static void check_limits(void)
{
	volatile size_t most = SIZE_MAX;
	CHECK(!keep(malloc(most)) && errno == ENOMEM);
	CHECK(!keep(calloc(most / 2, 3)) && errno == ENOMEM);
	CHECK(!keep(pvalloc(most)) && errno == ENOMEM);
	CHECK(!keep(valloc(most)) && errno == ENOMEM);
	CHECK(!keep(memalign(PAGE, most - PAGE)) && errno == ENOMEM);
	CHECK(!keep(reallocarray(NULL, most / 2, 3)) && errno == ENOMEM);
	CHECK(posix_memalign((void **)&kept, PAGE, most) == ENOMEM);
	CHECK(posix_memalign((void **)&kept, 3 * PAGE, LARGE) == EINVAL);
	char *block = keep(malloc(100000));
	block[99999] = 5;
	CHECK(!realloc(block, most) && errno == ENOMEM && block[99999] == 5);
	// More than the machine has.
	CHECK(!keep(malloc(1UL << 46)) && errno == ENOMEM);
	CHECK(pvalloc(1) && malloc_usable_size(keep(malloc(100001))) >= 100001);
}

// Pages that the program protects do not stay so after it has freed them.
static void check_guards(void)
{
	for (int at = 0; at < 4; at++) {
		char *block;
		CHECK(posix_memalign((void **)&block, PAGE, LARGE) == 0);
		memset(keep(block), at, LARGE);
		CHECK(mprotect(block + 2 * PAGE, PAGE, at % 2 ? PROT_READ : PROT_NONE) == 0);
		free(block);
	}
}

// Nor do pages that it replaces.
static void check_replaced(void)
{
	int fd = memfd_create("replaced", 0);
	char first = 7, *block = NULL;
	CHECK(pwrite(fd, &first, 1, 0) == 1 && ftruncate(fd, PAGE) == 0);
	for (int at = 0; at < 3; at++) {
		CHECK(posix_memalign((void **)&block, PAGE, LARGE) == 0);
		char *page = keep(block + PAGE);
		if (at == 0)
			CHECK(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == page);
		if (at == 1)
			CHECK(munmap(page, PAGE) == 0);
		if (at == 2) {
			char *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			CHECK(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) == page);
		}
		free(block);
		block = keep(calloc(1, LARGE));
		for (size_t offset = 0; offset < LARGE; offset += PAGE)
			CHECK(block[offset] == 0 && block[offset + PAGE - 1] == 0);
		memset(block, 1, LARGE);
		free(block);
		CHECK(pread(fd, &first, 1, 0) == 1 && first == 7);
	}
}

// Memory is zero after calloc(), even if the kernel has refused to discard the pages of an earlier block.
static void check_discarded(void)
{
	size_t size = 300UL << 20;
	char *block = keep(malloc(size));
	CHECK(block && (*block = 1) && mlock(block, 1) == 0);
	for (size_t offset = 0; offset < size; offset += 1 << 20)
		block[offset] = 1;
	free(block);
	block = keep(calloc(1, size));
	for (size_t offset = 0; offset < size; offset += 1 << 20)
		CHECK(block[offset] == 0);
	free(block);
}

// A program that locks its memory has not much more of it.
static void check_locked(void)
{
	memset(keep(malloc(1 << 20)), 1, 1 << 20);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
		printf("skipped: mlockall is not permitted (errno %d); run as root, or raise `ulimit -l`\n", errno);
		return;
	}
	memset(keep(malloc(1 << 20)), 1, 1 << 20);
	long size, resident;
	FILE *file = fopen("/proc/self/statm", "r");
	CHECK(file && fscanf(file, "%ld %ld", &size, &resident) == 2);
	CHECK(resident < (64 << 20) / PAGE);
}

struct block {
	unsigned char *data, value;
	size_t size;
};

static unsigned next(unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 8;
}

static size_t next_size(unsigned *seed)
{
	size_t around[] = { 200, 65536, 3 * PAGE, 2 << 20, 300000 };
	size_t size = around[next(seed) % 5];
	return next(seed) % 2 ? size - 8 + next(seed) % 16 : 1 + next(seed) % size;
}

static void verify(const struct block *block, size_t size)
{
	for (size_t at = 0; at < size; at += 509)
		CHECK(block->data[at] == block->value);
	CHECK(!size || block->data[size - 1] == block->value);
}

static void change(struct block *block, unsigned *seed)
{
	size_t size = next_size(seed), align = 1UL << (4 + next(seed) % 18);
	verify(block, block->size);
	switch (next(seed) % 4) {
	case 0:
		block->data = realloc(block->data, size);
		CHECK(block->data);
		verify(block, size < block->size ? size : block->size);
		break;
	case 1:
		free(block->data);
		block->data = calloc(size, 1), block->value = 0, block->size = size;
		verify(block, size);
		break;
	case 2:
		free(block->data);
		block->data = malloc(size);
		break;
	default:
		free(block->data);
		CHECK(posix_memalign((void **)&block->data, align, size) == 0 && (uintptr_t)block->data % align == 0);
	}
	block->size = size, block->value = next(seed);
	CHECK(malloc_usable_size(block->data) >= size);
	memset(block->data, block->value, size);
}

static void *change_blocks(void *number)
{
	unsigned seed = (uintptr_t)number;
	struct block blocks[20] = { 0 };
	for (int round = 0; round < 400; round++)
		change(&blocks[next(&seed) % 20], &seed);
	for (int at = 0; at < 20; at++)
		free(blocks[at].data);
	return NULL;
}

// Eight threads change blocks, while children do so too.
static void check_threads(void)
{
	pthread_t threads[8];
	for (uintptr_t at = 0; at < 8; at++)
		CHECK(pthread_create(&threads[at], NULL, change_blocks, (void *)at) == 0);
	for (uintptr_t at = 0; at < 20; at++) {
		int status;
		pid_t child = fork();
		if (child == 0) {
			alarm(60);
			CHECK(pthread_create(&threads[0], NULL, change_blocks, (void *)(at + 100)) == 0);
			change_blocks((void *)at);
			pthread_join(threads[0], NULL);
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	for (int at = 0; at < 8; at++)
		pthread_join(threads[at], NULL);
}

// What a child maps where its parent shares memory with the driver stays as it is when the child uses a file.
static void check_child(void)
{
	static char data[PAGE];
	char *maps[16];
	int h = open("/dev/xdma0_h2c_0", O_RDWR), status;
	CHECK(h >= 0 && pwrite(h, data, PAGE, 0) == PAGE);
	pid_t child = fork();
	if (child == 0) {
		for (int at = 0; at < 16; at++) {
			maps[at] = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			memset(maps[at], at + 1, 1 << 20);
		}
		CHECK(pwrite(h, data, PAGE, 0) == PAGE || errno == EBUSY);
		for (size_t at = 0; at < 16 << 20; at += PAGE)
			CHECK(maps[at >> 20][at % (1 << 20)] == (char)((at >> 20) + 1));
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*check)(void);
	} checks[] = {
		{ "limits", check_limits }, { "guards", check_guards }, { "replaced", check_replaced }, { "discarded", check_discarded },
		{ "locked", check_locked }, { "threads", check_threads }, { "child", check_child },
	};
	for (unsigned i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		if (argc == 2 && !strcmp(argv[1], checks[i].name)) {
			checks[i].check();
			return 0;
		}
	return 2;
}
