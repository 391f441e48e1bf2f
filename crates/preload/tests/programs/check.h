// Checks of the test programs: a check that fails prints its line and ends the program.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what) \
	do { \
		errno = 0; \
		if (!(what)) { \
			printf("line %d: %s (errno %d)\n", __LINE__, #what, errno); \
			exit(1); \
		} \
	} while (0)
// Checks that a call fails with an errno.
#define FAILS(call, number) CHECK((long)(call) == -1 && errno == (number))
