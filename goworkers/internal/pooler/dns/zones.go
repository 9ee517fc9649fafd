// Zones: a new serial number has the names of a zone asked for again.

package dns

import (
	"slices"
	"strings"
	"time"
)

// zone is what is known about a zone; the resolver's lock guards it.
type zone struct {
	name   string
	serial uint32
	known  bool // there is a serial
	due    time.Time
	asking bool
	seen   bool
}

// zoneOf returns the zone of a name: all but its first label, or "".
func zoneOf(host string) string {
	_, zone, _ := strings.Cut(strings.TrimSuffix(host, "."), ".")
	return strings.ToLower(zone)
}

// Sweep looks at the serial numbers of the zones for which it is time. It is to be called
// a few times a second and does not wait.
func (r *Resolver) Sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	if r.set.ZoneCheckPeriod <= 0 {
		clear(r.zones)
		return
	}
	for _, z := range r.zones {
		z.seen = false
	}
	for _, e := range r.entries {
		if e.zone == "" {
			continue
		}
		z := r.zones[e.zone]
		if z == nil {
			z = &zone{name: e.zone}
			r.zones[e.zone] = z
		}
		z.seen = true
	}
	now := r.cfg.Now()
	for _, z := range r.zones {
		switch {
		case !z.seen:
			delete(r.zones, z.name)
		case !z.asking && !now.Before(z.due):
			z.asking = true
			r.workers.Go(func() { r.checkZone(z) })
		}
	}
}

// checkZone asks for a zone's serial number. Without an answer the old one stays.
func (r *Resolver) checkZone(z *zone) {
	serial, ok := r.serial(z.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	z.asking = false
	z.due = r.cfg.Now().Add(r.set.ZoneCheckPeriod)
	if !ok || r.stopped {
		return
	}
	if z.known && z.serial != serial {
		for _, e := range r.entries {
			if e.zone == z.name {
				// What is under way may have been asked before the change.
				e.again = e.again || e.asking
				r.ask(e)
			}
		}
	}
	z.serial, z.known = serial, true
}

// Zone is a line of SHOW DNS_ZONES.
type Zone struct {
	Name string
	// Serial is the number last seen; 0: none yet.
	Serial uint32
	// Hosts counts the names of the zone that are known.
	Hosts int
}

// Zones lists the zones that are watched, sorted; without ZoneCheckPeriod there are none.
func (r *Resolver) Zones() []Zone {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Zone, 0, len(r.zones))
	for _, z := range r.zones {
		row := Zone{Name: z.name, Serial: z.serial}
		for _, e := range r.entries {
			if e.zone == z.name {
				row.Hosts++
			}
		}
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b Zone) int { return strings.Compare(a.Name, b.Name) })
	return list
}
