package node

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// scope is how far an IP address reaches, narrow to wide. An address without one is never dialled on another's word.
type scope int

const (
	noScope scope = iota
	loopback
	private
	public
)

var (
	privateBlocks = blocks(
		"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15",
		"fc00::/7", "fec0::/10", "2001:2::/48")
	unscopedBlocks = blocks(
		"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	// globalUnicast is the range of public IPv6 addresses; linkLocal addresses are valid for connections only.
	globalUnicast = netip.MustParsePrefix("2000::/3")
	linkLocal     = netip.MustParsePrefix("fe80::/10")
	// nat64 is the prefix behind which a translator reaches IPv4 addresses.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func blocks(prefixes ...string) (parsed []netip.Prefix) {
	for _, prefix := range prefixes {
		parsed = append(parsed, netip.MustParsePrefix(prefix))
	}
	return parsed
}

func within(ip netip.Addr, blocks []netip.Prefix) bool {
	for _, block := range blocks {
		if block.Contains(ip) {
			return true
		}
	}
	return false
}

// scopeOf returns the scope of an address that a peer names.
func scopeOf(ip netip.Addr) scope {
	ip = ip.Unmap()
	switch {
	case isISATAP(ip):
		return noScope
	case ip.IsLoopback():
		return loopback
	case within(ip, privateBlocks):
		return private
	case nat64.Contains(ip) && scopeOf(behind(ip)) == public:
		return public
	case within(ip, unscopedBlocks), ip.Is6() && !globalUnicast.Contains(ip):
		return noScope
	}
	return public
}

// scopeOfLink returns the scope of a link by the address at the other end of its socket.
func scopeOfLink(remote ma.Multiaddr) scope {
	to, known := socketOf(remote)
	switch {
	case !known:
		return public
	case linkLocal.Contains(to.Addr().WithZone("")):
		return private
	}
	if s := scopeOf(to.Addr()); s != noScope {
		return s
	}
	return public
}

// isISATAP says whether the lower half of an IPv6 address names the end of a tunnel to an IPv4 address.
func isISATAP(ip netip.Addr) bool {
	b := ip.As16()
	return ip.Is6() && b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

// behind returns the IPv4 address that a dial reaches through a translator, else the address itself.
func behind(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if b := ip.As16(); nat64.Contains(ip) {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// hostOf returns the unit that one owner commonly has: an IPv4 address, or an IPv6 /64.
func hostOf(ip netip.Addr) netip.Prefix {
	ip = behind(ip.WithZone(""))
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// socketOf is the IP address and port of an address.
func socketOf(address ma.Multiaddr) (netip.AddrPort, bool) {
	_, host, err := manet.DialArgs(address)
	if err != nil {
		return netip.AddrPort{}, false
	}
	at, err := netip.ParseAddrPort(host)
	return at, err == nil
}
