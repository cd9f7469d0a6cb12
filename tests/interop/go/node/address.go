package node

// Addresses that rest on another's word. Only one form of a multiaddr counts, and it is read here byte by byte, since
// go-multiaddr takes many more protocols and knows nothing of a websocket's path.

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"diatribe.invalid/peer/wire"
)

const (
	// maxAddressSize is the longest address that is looked at, in bytes.
	maxAddressSize = 128
	// Ports below firstFreePort belong to other services, but for those of the web.
	firstFreePort       = 1024
	portHTTP, portHTTPS = 80, 443
)

// The codes of multiaddr's protocols. The last two are websockets with a path.
const (
	codeIP4     = 4
	codeTCP     = 6
	codeIP6     = 41
	codeP2P     = 421
	codeTLS     = 448
	codeWS      = 477
	codeWSS     = 478
	codeWSPath  = 4770
	codeWSSPath = 4780
)

// readAddress reads an address of a peer: /ip4|ip6/…/tcp/N, then /ws, /wss or /tls/ws with the path "/", then perhaps
// /p2p/ of that very peer. It returns /ip4|ip6/…/tcp/N/ws or …/tls/ws, an IPv4 address within an IPv6 one being that
// IPv4 address. Everything else is no address, nor is an address without a scope.
func readAddress(encoded []byte, of peer.ID) (ma.Multiaddr, bool) {
	if len(encoded) > maxAddressSize {
		return nil, false
	}
	p := &parts{rest: encoded}
	ip := p.ip()
	if p.number() != codeTCP {
		return nil, false
	}
	port := p.port()
	end := p.websocket()
	if len(p.rest) > 0 && (p.number() != codeP2P || p.sized() != string(of)) {
		return nil, false
	}
	if p.bad || len(p.rest) > 0 || scopeOf(ip) == noScope {
		return nil, false
	}
	family := "/ip4/"
	if ip.Is6() {
		family = "/ip6/"
	}
	address, err := ma.NewMultiaddr(family + ip.String() + "/tcp/" + strconv.Itoa(port) + end)
	return address, err == nil
}

// canonicals returns those of a node's addresses that others read, as they read them.
func canonicals(addresses []ma.Multiaddr) (kept []ma.Multiaddr) {
	for _, each := range addresses {
		if address, found := readAddress(each.Bytes(), ""); found {
			kept = append(kept, address)
		}
	}
	return kept
}

// parts reads a multiaddr. Any malformed part sets bad, permanently.
type parts struct {
	rest []byte
	bad  bool
}

func (p *parts) number() uint64 {
	n, size := wire.ConsumeVarint(p.rest)
	p.bad = p.bad || size == 0
	p.rest = p.rest[size:]
	return n
}

func (p *parts) bytes(n uint64) []byte {
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

// sized is a value after its length.
func (p *parts) sized() string { return string(p.bytes(p.number())) }

func (p *parts) ip() netip.Addr {
	sizes := map[uint64]uint64{codeIP4: 4, codeIP6: 16}
	ip, ok := netip.AddrFromSlice(p.bytes(sizes[p.number()]))
	p.bad = p.bad || !ok
	return ip.Unmap()
}

func (p *parts) port() int {
	bytes := p.bytes(2)
	if p.bad {
		return 0
	}
	port := int(binary.BigEndian.Uint16(bytes))
	p.bad = port < firstFreePort && port != portHTTP && port != portHTTPS
	return port
}

// websocket is how the address goes on after the port.
func (p *parts) websocket() string {
	code := p.number()
	secure := code == codeTLS
	if secure {
		if code = p.number(); code != codeWS && code != codeWSPath {
			p.bad = true
		}
	}
	switch code {
	case codeWS:
	case codeWSS:
		secure = true
	case codeWSPath, codeWSSPath:
		secure = secure || code == codeWSSPath
		p.bad = p.sized() != "/" || p.bad
	default:
		p.bad = true
	}
	if secure {
		return "/tls/ws"
	}
	return "/ws"
}
