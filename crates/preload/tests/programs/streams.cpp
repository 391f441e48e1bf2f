// Streams of the C++ library over the memory-mapped device files. Reports the first failed check.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#define CHECK(condition)                                                                                                                       \
	do {                                                                                                                                       \
		if (!(condition)) {                                                                                                                    \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                                            \
			exit(1);                                                                                                                           \
		}                                                                                                                                      \
	} while (0)

int main()
{
	std::string data, read(4096, ' ');
	while (data.size() < 4096)
		data += std::to_string(data.size());
	data.resize(4096);
	std::ofstream out("/dev/xdma0_h2c_0", std::ios::binary);
	CHECK(out.seekp(0x3000) && out.write(data.data(), data.size()) && out.flush());
	std::ifstream in("/dev/xdma0_c2h_0", std::ios::binary);
	CHECK(in.seekg(0x3000) && in.read(&read[0], read.size()) && read == data);
	CHECK(in.seekg(0x3100) && in.read(&read[0], 256) && !memcmp(&read[0], &data[256], 256));
	return 0;
}
