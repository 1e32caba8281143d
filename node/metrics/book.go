package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ringfort/ringfort/internal/histogram"
)

// book is all sections of a node's metrics; it is a prometheus.Collector.
type book struct{ sections []page }

// page is a section whatever its type.
type page interface {
	describe(chan<- *prometheus.Desc)
	collect(chan<- prometheus.Metric)
	facts() (title, about string, labels []string, entries []entry)
}

// entry is what the documentation says of one metric.
type entry struct{ name, kind, help, look string }

// Describe implements prometheus.Collector.
func (b *book) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range b.sections {
		s.describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (b *book) Collect(ch chan<- prometheus.Metric) {
	for _, s := range b.sections {
		s.collect(ch)
	}
}

// row is one value of a section and its labels.
type row[T any] struct {
	labels []string
	value  T
}

// one is for sections without labels; ok false leaves all of it out.
func one[T any](read func() (T, bool)) func() []row[T] {
	return func() []row[T] {
		v, ok := read()
		if !ok {
			return nil
		}
		return []row[T]{{value: v}}
	}
}

// sectionOf is metrics that are read from rows of T.
type sectionOf[T any] struct {
	title, about string
	labels       []string
	rows         func() []row[T]
	metrics      []metricOf[T]
}

type metricOf[T any] struct {
	entry
	desc      *prometheus.Desc
	valueType prometheus.ValueType
	number    func(T) float64            // NaN leaves it out
	times     func(T) histogram.Snapshot // instead of number
}

// section adds an empty section to the book.
func section[T any](b *book, title, about string, rows func() []row[T], labels ...string) *sectionOf[T] {
	s := &sectionOf[T]{title: title, about: about, labels: labels, rows: rows}
	b.sections = append(b.sections, s)
	return s
}

// counter adds what only rises. look says when to look at it.
func (s *sectionOf[T]) counter(name, help, look string, read func(T) float64) {
	s.add(metricOf[T]{entry: entry{name, "counter", help, look}, valueType: prometheus.CounterValue, number: read})
}

// gauge adds what rises and falls.
func (s *sectionOf[T]) gauge(name, help, look string, read func(T) float64) {
	s.add(metricOf[T]{entry: entry{name, "gauge", help, look}, valueType: prometheus.GaugeValue, number: read})
}

// histogram adds times.
func (s *sectionOf[T]) histogram(name, help, look string, read func(T) histogram.Snapshot) {
	s.add(metricOf[T]{entry: entry{name, "histogram", help, look}, times: read})
}

func (s *sectionOf[T]) add(m metricOf[T]) {
	m.desc = prometheus.NewDesc(m.name, m.help, s.labels, nil)
	s.metrics = append(s.metrics, m)
}

func (s *sectionOf[T]) describe(ch chan<- *prometheus.Desc) {
	for _, m := range s.metrics {
		ch <- m.desc
	}
}

func (s *sectionOf[T]) collect(ch chan<- prometheus.Metric) {
	for _, r := range s.rows() {
		for _, m := range s.metrics {
			if m.times != nil {
				ch <- constHistogram(m.desc, m.times(r.value), r.labels)
				continue
			}
			if v := m.number(r.value); !math.IsNaN(v) {
				ch <- prometheus.MustNewConstMetric(m.desc, m.valueType, v, r.labels...)
			}
		}
	}
}

func (s *sectionOf[T]) facts() (title, about string, labels []string, entries []entry) {
	for _, m := range s.metrics {
		entries = append(entries, m.entry)
	}
	return s.title, s.about, s.labels, entries
}

func constHistogram(desc *prometheus.Desc, s histogram.Snapshot, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(s.Cumulative))
	for i, n := range s.Cumulative {
		buckets[histogram.Bound(i).Seconds()] = n
	}
	return prometheus.MustNewConstHistogram(desc, s.Count, s.Sum.Seconds(), buckets, labels...)
}
