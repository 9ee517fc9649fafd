package batch

// The statistics line.

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Stats counts what a job did since its last statistics line. It is safe for
// concurrent use; the zero value is ready.
type Stats struct {
	mu     sync.Mutex
	order  []string
	values map[string]float64
}

// Add counts n more of key.
func (s *Stats) Add(key string, n int) { s.add(key, float64(n)) }

// AddDuration counts time spent, in seconds.
func (s *Stats) AddDuration(key string, d time.Duration) { s.add(key, d.Seconds()) }

func (s *Stats) add(key string, n float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string]float64{}
	}
	if _, ok := s.values[key]; !ok {
		s.order = append(s.order, key)
	}
	s.values[key] += n
}

// Flush returns the line, like `{count: 20, duration: 0.0031}`, and starts
// anew. It is "" when nothing was counted. Keys stand in the order in which
// they were first counted; programs read this form.
func (s *Stats) Flush() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return ""
	}
	parts := make([]string, len(s.order))
	for i, key := range s.order {
		rounded := math.Round(s.values[key]*1e4) / 1e4
		parts[i] = fmt.Sprintf("%s: %s", key, strconv.FormatFloat(rounded, 'f', -1, 64))
	}
	s.order, s.values = nil, nil
	return "{" + strings.Join(parts, ", ") + "}"
}
