// A library whose constructor runs before that of the preload library.
#define _GNU_SOURCE
#include <dlfcn.h>

__attribute__((constructor)) static void look_up(void)
{
	// The second call frees the text of the first one's error.
	for (int at = 0; at < 2; at++)
		dlsym(RTLD_NEXT, "no_such_function");
}
