// How long things took, in buckets.

package pooler

import (
	"math/bits"
	"time"
)

// The upper bounds of the buckets are 100 µs and its doubles, to some 100 s.
const (
	firstBucket = 100 * time.Microsecond
	bucketCount = 21
)

// histogram counts times by their bucket; the last one is for what is longer than all.
type histogram [bucketCount + 1]uint64

// observe counts a time. It neither allocates nor locks: a histogram belongs to a loop.
func (h *histogram) observe(d time.Duration) {
	i := 0
	if d > firstBucket {
		i = min(bits.Len64(uint64((d-1)/firstBucket)), bucketCount)
	}
	h[i]++
}

// bucketBound is the longest time that a bucket counts, in seconds.
func bucketBound(i int) float64 { return (firstBucket << i).Seconds() }

// cumulative is the histogram as Prometheus wants it: the number of all times, and for
// each bound, in seconds, that of the times up to it.
func (h *histogram) cumulative() (count uint64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, bucketCount)
	for i, n := range h {
		count += n
		if i < bucketCount {
			buckets[bucketBound(i)] = count
		}
	}
	return count, buckets
}
