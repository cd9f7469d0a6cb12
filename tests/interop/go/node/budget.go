package node

import (
	"net/netip"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

const (
	// dialBurst dials that rest on another's word may be made at once, and one more every dialEvery.
	dialBurst = 8
	dialEvery = 5 * time.Second
	// In redialAfter, an IP address and port is dialled once, and a host dialsPerHost times, loopback apart.
	redialAfter  = time.Minute
	dialsPerHost = 2
)

// dialBudget bounds all dials that rest on another's word, so that no node can be made to attack an address. It is not
// safe for use from several goroutines.
type dialBudget struct {
	tokens int
	// since is when the bucket was last full, or got its last token.
	since time.Time
	// lately are the dials of the last redialAfter: no more than the bucket has given in that time.
	lately []dialed
}

type dialed struct {
	to netip.AddrPort
	at time.Time
}

func newDialBudget(now time.Time) *dialBudget { return &dialBudget{tokens: dialBurst, since: now} }

// take returns those of the addresses that may be dialled now, and counts them.
func (b *dialBudget) take(now time.Time, addresses []ma.Multiaddr) (may []ma.Multiaddr) {
	for b.tokens < dialBurst && now.Sub(b.since) >= dialEvery {
		b.tokens++
		b.since = b.since.Add(dialEvery)
	}
	kept := b.lately[:0]
	for _, d := range b.lately {
		if now.Sub(d.at) < redialAfter {
			kept = append(kept, d)
		}
	}
	b.lately = kept
	for _, address := range addresses {
		to, known := socketOf(address)
		if !known || b.tokens == 0 || !b.isFresh(to) {
			continue
		}
		if b.tokens == dialBurst {
			b.since = now
		}
		b.tokens--
		b.lately = append(b.lately, dialed{to, now})
		may = append(may, address)
	}
	return may
}

func (b *dialBudget) isFresh(to netip.AddrPort) bool {
	sameHost := 0
	for _, d := range b.lately {
		if d.to == to {
			return false
		}
		if hostOf(d.to.Addr()) == hostOf(to.Addr()) {
			sameHost++
		}
	}
	return sameHost < dialsPerHost || to.Addr().IsLoopback()
}
