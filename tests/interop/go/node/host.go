package node

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"

	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"diatribe.invalid/peer/handshake"
)

const (
	// Connections from one IPv4 address, from one IPv6 /56 and from one /48. go-libp2p's own are 8, 8 and 64 (loopback
	// has none): too few for nodes that share an address.
	maxConnsIP4, maxConns56, maxConns48 = 128, 128, 512
	dialTimeout                         = 10 * time.Second
)

// newHost is a libp2p host that speaks websockets, noise and yamux and dials nobody by itself. It does not listen yet.
func newHost(n *Node, privateKey []byte) (host.Host, error) {
	key, err := crypto.UnmarshalPrivateKey(privateKey)
	if err != nil {
		return nil, err
	}
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	// By default a peer has so few pings under way, on all its connections together, that one on a link may be refused.
	limits.AddProtocolPeerLimit(pingProtocol, rcmgr.BaseLimit{
		Streams: 4 * maxPingStreams, StreamsInbound: 2 * maxPingStreams, StreamsOutbound: 2 * maxPingStreams, Memory: 16 << 20,
	}, rcmgr.BaseLimitIncrease{})
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnsIP4}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxConns56}, {PrefixLength: 48, ConnCount: maxConns48}}),
		// By default an address gets one new connection in 5 s after the first 16.
		rcmgr.WithConnRateLimiters(&rate.Limiter{GlobalLimit: rate.Limit{RPS: 50, Burst: maxConns48}}))
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		libp2p.Transport(websocket.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.ConnectionGater(n.gater),
		libp2p.ProtocolVersion("/diatribe/1.0.0"),
		libp2p.UserAgent("diatribe-go/1"),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		// identify answers strangers: it names no address. The overlay names addresses to peers that have passed.
		libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return nil }),
		// Its answers end after 30 s; those of ping.go do not.
		libp2p.Ping(false),
		libp2p.WithDialTimeout(dialTimeout),
	)
	if err != nil {
		return nil, err
	}
	// For identify to name them. mux.go accepts the streams, before they reach this handler.
	for _, id := range ungated {
		h.SetStreamHandler(id, func(s network.Stream) { s.Reset() })
	}
	return h, nil
}

var ungated = []protocolID{handshake.Protocol, pingProtocol}

// gater lets the node dial only requested addresses. go-libp2p dials every address that it has ever heard of a peer.
type gater struct {
	mu      sync.Mutex
	allowed map[peer.ID][]ma.Multiaddr
}

func (g *gater) allow(id peer.ID, addresses []ma.Multiaddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if addresses == nil {
		delete(g.allowed, id)
		return
	}
	g.allowed[id] = addresses
}

func (g *gater) InterceptPeerDial(id peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.allowed[id]) > 0
}

func (g *gater) InterceptAddrDial(id peer.ID, address ma.Multiaddr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.allowed[id], func(allowed ma.Multiaddr) bool {
		// A name has already been resolved here.
		return allowed.Equal(address) || madns.Matches(allowed)
	})
}

func (*gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (*gater) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

func (*gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
