package node

import (
	"encoding/hex"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	somebody = "002408011220" + "79e1b63c2cf705056a467a50626a3778e3926617e3cbca6fb5760dfbcf020f06"
	loop     = "047f000001"
	port9000 = "062328"
	ws       = "dd03"
)

func TestAddressesHaveOneForm(t *testing.T) {
	id, err := hex.DecodeString(somebody)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		loop + port9000 + ws:                                 "/ip4/127.0.0.1/tcp/9000/ws",
		loop + port9000 + "c003" + ws:                        "/ip4/127.0.0.1/tcp/9000/tls/ws",
		loop + port9000 + "de03":                             "/ip4/127.0.0.1/tcp/9000/tls/ws",
		loop + port9000 + "a225012f":                         "/ip4/127.0.0.1/tcp/9000/ws",
		loop + port9000 + "c003a225012f":                     "/ip4/127.0.0.1/tcp/9000/tls/ws",
		loop + port9000 + "ac25012f":                         "/ip4/127.0.0.1/tcp/9000/tls/ws",
		loop + port9000 + ws + "a50326" + somebody:           "/ip4/127.0.0.1/tcp/9000/ws",
		loop + "060050" + ws:                                 "/ip4/127.0.0.1/tcp/80/ws",
		loop + "0601bb" + ws:                                 "/ip4/127.0.0.1/tcp/443/ws",
		loop + "060400" + ws:                                 "/ip4/127.0.0.1/tcp/1024/ws",
		"2900000000000000000000ffff7f000001" + port9000 + ws: "/ip4/127.0.0.1/tcp/9000/ws",
		"2926064700000000000000000000000007" + port9000 + ws: "/ip6/2606:4700::7/tcp/9000/ws",
		"04cb007101" + port9000 + ws:                         "",
		"":                                                   "",
		loop:                                                 "",
		loop + port9000:                                      "",
		loop + "0600" + ws:                                   "",
		loop + "060000" + ws:                                 "",
		loop + "060016" + ws:                                 "",
		loop + "0618eb":                                      "",
		loop + "91022328" + ws:                               "",
		loop + port9000 + "c003":                             "",
		loop + port9000 + "c003de03":                         "",
		loop + port9000 + "c003c003" + ws:                    "",
		loop + port9000 + ws + ws:                            "",
		loop + port9000 + ws + "00":                          "",
		loop + port9000 + "a225022f78":                       "",
		loop + port9000 + "a22500":                           "",
		loop + port9000 + "a225102f20485454":                 "",
		loop + port9000 + "c103096c6f63616c686f7374" + ws:    "",
		"8400" + "7f000001" + port9000 + ws:                  "",
		loop + port9000 + "dd8300":                           "",
		"36096c6f63616c686f7374" + port9000 + ws:             "",
		loop + port9000 + ws + "a50326" + somebody[:len(somebody)-2] + "07": "",
		loop + port9000 + ws + "a50325" + somebody[:len(somebody)-2]:        "",
		loop + port9000 + ws + "a50326" + somebody + "a202":                 "",
	} {
		encoded, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(text, err)
		}
		got, found := readAddress(encoded, peer.ID(id))
		if found != (want != "") || found && got.String() != want {
			t.Errorf("%s: %v, not %q", text, got, want)
		}
	}
}
