/* histogram.h - times in microseconds, kept in log-linear buckets: quantiles within 1.6 %, 16 KiB whatever the count. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H
#include <math.h>
#include <stdint.h>

#define BUCKETS 4096
#define LINEAR 64 /* below: one bucket a microsecond; above: 64 buckets for each doubling */

typedef struct histogram {
    uint64_t count;
    double largest;
    uint32_t bucket[BUCKETS];
} histogram;

static inline void histogram_add(histogram *h, double us) {
    int b;
    if (us < 0) us = 0;
    if (us > h->largest) h->largest = us;
    if (us < LINEAR) {
        b = (int)us;
    } else {
        int exponent;
        double mantissa = frexp(us, &exponent); /* in [0.5, 1): us = mantissa * 2^exponent */
        b = LINEAR + (exponent - 7) * 64 + (int)((mantissa - 0.5) * 128);
    }
    h->bucket[b < BUCKETS ? b : BUCKETS - 1]++;
    h->count++;
}

/* The q-th quantile (0 to 1); 0 when nothing was added. */
static inline double histogram_quantile(const histogram *h, double q) {
    if (!h->count) return 0;
    uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0;
    if (wanted >= h->count) wanted = h->count - 1;
    for (int b = 0; b < BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen <= wanted) continue;
        if (b < LINEAR) return b + 0.5;
        return ldexp(0.5 + ((b - LINEAR) % 64 + 0.5) / 128, (b - LINEAR) / 64 + 7);
    }
    return h->largest;
}
#endif
