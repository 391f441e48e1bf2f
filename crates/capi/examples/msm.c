/* Computes a multi-scalar multiplication on the card: points once, then scalars and a job as often as needed. */
#include "example.h"
#include <string.h>

enum { COUNT = 1024, JOBS = 3 };

/* The generator (1, 2) of BN254 in Montgomery form modulo p, x then y, little-endian. */
static const unsigned char GENERATOR[64] = {
    0x9d, 0x0d, 0x8f, 0xc5, 0x8d, 0x43, 0x5d, 0xd3, 0x3d, 0x0b, 0xc7, 0xf5, 0x28, 0xeb, 0x78, 0x0a,
    0x2c, 0x46, 0x79, 0x78, 0x6f, 0xa3, 0x6e, 0x66, 0x2f, 0xdf, 0x07, 0x9a, 0xc1, 0x77, 0x0a, 0x0e,
    0x3a, 0x1b, 0x1e, 0x8b, 0x1b, 0x87, 0xba, 0xa6, 0x7b, 0x16, 0x8e, 0xeb, 0x51, 0xd6, 0xf1, 0x14,
    0x58, 0x8c, 0xf2, 0xf0, 0xde, 0x46, 0xdd, 0xcc, 0x5e, 0xbe, 0x0f, 0x34, 0x83, 0xef, 0x14, 0x1c,
};

int main(int argc, char **argv) {
    xdma_card *card;
    xdma_msm *msm;
    xdma_points *points;
    xdma_scalars *scalars;
    xdma_job *job;
    EXPECT_OK(xdma_card_open(card_name(argc, argv), NULL, &card));
    EXPECT_OK(xdma_msm_open(card, NULL, &msm));
    EXPECT_OK(xdma_points_allocate(card, COUNT, &points));
    for (uint64_t at = 0; at < COUNT; at++) {
        EXPECT_OK(xdma_points_write(points, at, GENERATOR, 1));
    }
    EXPECT_OK(xdma_points_check(points));
    EXPECT_OK(xdma_scalars_allocate(card, COUNT, XDMA_SCALARS_CANONICAL, &scalars));
    EXPECT_OK(xdma_msm_prepare(msm, points, 0, scalars, 0, COUNT, &job));

    for (unsigned char number = 1; number <= JOBS; number++) {
        void *bytes;
        EXPECT_OK(xdma_scalars_get_data(scalars, &bytes));
        memset(bytes, 0, COUNT * 32);
        ((unsigned char *)bytes)[0] = number; /* the first scalar; the others are 0 */
        xdma_msm_ticket ticket;
        xdma_msm_result result;
        EXPECT_OK(xdma_msm_submit(msm, job, &ticket));
        EXPECT_OK(xdma_msm_wait(msm, ticket, XDMA_SECONDS(30), &result));
        printf("job %u: X = ", result.label);
        for (int at = 31; at >= 0; at--) {
            printf("%02x", result.point[at]);
        }
        printf("\n");
    }

    EXPECT_OK(xdma_job_close(job));
    EXPECT_OK(xdma_scalars_close(scalars));
    EXPECT_OK(xdma_points_close(points));
    EXPECT_OK(xdma_msm_close(msm));
    EXPECT_OK(xdma_card_close(card));
    return 0;
}
