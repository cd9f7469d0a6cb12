package node

import (
	"fmt"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

func TestTheBudgetOfDialsThatOthersAskFor(t *testing.T) {
	now := time.Now()
	b := newDialBudget(now)
	dial := func(ip, port int) bool {
		address := ma.StringCast(fmt.Sprintf("/ip4/8.8.8.%d/tcp/%d/ws", ip, port))
		return len(b.take(now, []ma.Multiaddr{address})) == 1
	}
	if !dial(1, 9000) || dial(1, 9000) {
		t.Error("an address and port is dialled once")
	}
	if !dial(1, 9001) || dial(1, 9002) {
		t.Error("an address is dialled twice")
	}
	for ip := 2; ip <= 7; ip++ {
		if !dial(ip, 9000) {
			t.Error("8 are dialled at once")
		}
	}
	if dial(8, 9000) {
		t.Error("9 are dialled at once")
	}
	now = now.Add(dialEvery)
	if !dial(8, 9000) || dial(9, 9000) {
		t.Error("one more is dialled after 5 s, and only one")
	}
	now = now.Add(redialAfter - dialEvery)
	if !dial(1, 9000) {
		t.Error("the same one is dialled again after a minute")
	}
	made := 0
	for range 120 { // a minute of half seconds
		now = now.Add(500 * time.Millisecond)
		for ip := range 256 {
			if dial(ip, 9000) {
				made++
			}
		}
		if len(b.lately) > dialBurst+int(redialAfter/dialEvery) {
			t.Fatalf("%d are remembered", len(b.lately))
		}
	}
	if most := dialBurst + int(time.Minute/dialEvery); made > most {
		t.Errorf("%d dials in a minute, %d are the most", made, most)
	}
}

func TestAHostIsDialledTwiceHoweverItIsSpelled(t *testing.T) {
	for _, host := range [][]string{
		{"/ip6/2606:4700::1", "/ip6/2606:4700::2", "/ip6/2606:4700::ffff:0:3"},
		{"/ip4/8.8.8.8", "/ip6/64:ff9b::808:808", "/ip4/8.8.8.8"},
	} {
		b := newDialBudget(time.Now())
		var addresses []ma.Multiaddr
		for i, ip := range host {
			addresses = append(addresses, ma.StringCast(fmt.Sprintf("%s/tcp/%d/ws", ip, 9000+i)))
		}
		if made := len(b.take(time.Now(), addresses)); made != dialsPerHost {
			t.Errorf("%v: %d dials", host, made)
		}
	}
	b := newDialBudget(time.Now())
	var here []ma.Multiaddr
	for port := range 9 {
		here = append(here, ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/ws", 9000+port)))
	}
	if made := len(b.take(time.Now(), here)); made != dialBurst {
		t.Errorf("loopback: %d dials", made)
	}
}

func TestABudgetIsNotCollectedBeyondTheBurst(t *testing.T) {
	now := time.Now()
	b := newDialBudget(now)
	now = now.Add(time.Hour)
	made := 0
	for ip := range 256 {
		made += len(b.take(now, []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/8.8.8.%d/tcp/9000/ws", ip))}))
	}
	if made != dialBurst {
		t.Errorf("%d", made)
	}
}
