package node

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"diatribe.invalid/peer/vectors"
	"diatribe.invalid/peer/wire"
)

type overlayBody struct {
	Name, Message, Kind, Rule string
	Fields                    overlayFields
	Body                      vectors.Hex
}

type overlayContact struct {
	PeerID    string `json:"peer_id"`
	Addresses []string
}

type overlayFields struct {
	Role, Answer, Refusal string
	Addresses             []string
	Contacts, Offered     []overlayContact
	To                    *overlayContact
}

func readOverlay(t *testing.T) (p struct {
	Sender                             string
	Requests, Responses, Read, Refused []overlayBody
	Scopes                             []struct {
		Address     string
		Bytes       vectors.Hex
		Scope, Read string
	}
	InScope []struct {
		Link, Address string
		Allowed       bool
	} `json:"in_scope"`
}) {
	t.Helper()
	vectors.Read(t, "overlay.json", &p)
	if len(p.Requests)*len(p.Responses)*len(p.Read)*len(p.Refused)*len(p.Scopes)*len(p.InScope) == 0 {
		t.Fatal("a part of the vectors is empty")
	}
	return p
}

func (v overlayBody) read(t *testing.T, sender string) (*overlayMessage, error) {
	if v.Message == "response" {
		return decodeResponse(v.Body, peerID(t, sender))
	}
	return decodeRequest(v.Body, peerID(t, sender))
}

func peerID(t *testing.T, text string) peer.ID {
	t.Helper()
	id, err := peer.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOverlayMessagesSayWhatIsPublished(t *testing.T) {
	p := readOverlay(t)
	for i := range p.Responses {
		p.Responses[i].Message = "response"
	}
	for _, v := range append(append(p.Requests, p.Responses...), p.Read...) {
		m, err := v.read(t, p.Sender)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if kinds := overlayKinds(v.Message); kinds[m.kind] != v.Kind {
			t.Errorf("%s: %s, not %s", v.Name, kinds[m.kind], v.Kind)
		}
		same := func(what string, got, want []string) {
			if len(got) != len(want) {
				t.Errorf("%s: %s %v, not %v", v.Name, what, got, want)
				return
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%s: %s %v, not %v", v.Name, what, got, want)
				}
			}
		}
		same("addresses", texts(contact{addresses: m.addresses})[1:], v.Fields.Addresses)
		published := append(v.Fields.Contacts, v.Fields.Offered...)
		if len(m.contacts) != len(published) {
			t.Errorf("%s: %d contacts, not %d", v.Name, len(m.contacts), len(published))
			continue
		}
		for i, c := range published {
			same("contact", texts(m.contacts[i]), append([]string{c.PeerID}, c.Addresses...))
		}
		if c := v.Fields.To; c != nil {
			same("to", texts(m.to), append([]string{c.PeerID}, c.Addresses...))
		}
		if role := map[string]uint32{"EXPECT": roleExpect}[v.Fields.Role]; m.role != role {
			t.Errorf("%s: role %d", v.Name, m.role)
		}
		answer := map[string]uint32{
			"ACCEPTED": joinAccepted, "SPLIT": joinSplit, "PENDING": joinPending, "BUSY": redirectBusy, "UNSUITABLE": redirectUnsuitable,
			"TOO_MANY": redirectTooMany, "NOT_DIALABLE": redirectNoDial,
		}[v.Fields.Answer+v.Fields.Refusal]
		if m.answer != answer {
			t.Errorf("%s: answer %d, not %d", v.Name, m.answer, answer)
		}
	}
}

func texts(c contact) []string {
	found := []string{c.id.String()}
	for _, address := range c.addresses {
		found = append(found, address.String())
	}
	return found
}

func overlayKinds(message string) map[int]string {
	if message == "response" {
		return map[int]string{
			kindContacts: "Contacts", kindJoined: "Joined", kindRedirected: "Redirected", kindDone: "Done", kindHandoverReply: "HandoverReply",
		}
	}
	return map[int]string{
		kindShuffle: "Shuffle", kindJoin: "Join", kindRedirect: "Redirect", kindAttach: "Attach", kindReport: "Report",
		kindCancel: "Cancel", kindProposeHandover: "ProposeHandover", kindLeave: "Leave", kindDropRedundantLink: "DropRedundantLink",
	}
}

func TestAddressesAreReadAndHaveTheirScope(t *testing.T) {
	p := readOverlay(t)
	for _, v := range p.Scopes {
		address, found := readAddress(v.Bytes, peerID(t, p.Sender))
		if found != (v.Read != "") || found && address.String() != v.Read {
			t.Errorf("%s is read as %v, not %q", v.Address, address, v.Read)
		}
		if !found {
			continue
		}
		to, _ := socketOf(address)
		if want := map[string]scope{"loopback": loopback, "private": private, "public": public}[v.Scope]; scopeOf(to.Addr()) != want {
			t.Errorf("%s: %d, not %s", v.Address, scopeOf(to.Addr()), v.Scope)
		}
	}
}

func TestALinkNamesWhatIsInItsScope(t *testing.T) {
	for _, v := range readOverlay(t).InScope {
		allowed := false
		if address, err := ma.NewMultiaddr(v.Address); err == nil {
			if address, found := readAddress(address.Bytes(), ""); found {
				to, _ := socketOf(address)
				allowed = scopeOf(to.Addr()) >= scopeOfLink(ma.StringCast(v.Link))
			}
		}
		if allowed != v.Allowed {
			t.Errorf("%s over %s: %t", v.Address, v.Link, allowed)
		}
	}
}

func TestOffencesOfTheOverlayAreOffences(t *testing.T) {
	p := readOverlay(t)
	for _, v := range p.Refused {
		_, err := v.read(t, p.Sender)
		if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, errKind) && !errors.Is(err, errNobody) {
			t.Errorf("%s, a %s: %v", v.Name, v.Message, err)
		}
	}
}

func TestEachPartOfAnOverlayMessageIsWellFormed(t *testing.T) {
	group := []byte{0xa3, 0x06, 0xa4, 0x06}
	broken := (&wire.Writer{}).Bytes(1, []byte("nobody")).Out
	broken = append(broken, group...)
	tenContacts := &wire.Writer{}
	for range 9 {
		tenContacts.Message(1, nil)
	}
	for what, body := range map[string][]byte{
		"a group beside the kind":         append(encodeOverlay(kindAttach, &wire.Writer{}), group...),
		"a group in a request":            encodeOverlay(kindAttach, &wire.Writer{Out: group}),
		"a group in a kind that is unset": append(encodeOverlay(kindReport, &wire.Writer{Out: group}), encodeOverlay(kindAttach, &wire.Writer{})...),
		"a group in a contact":            encodeOverlay(kindShuffle, (&wire.Writer{}).Message(1, broken)),
		"a group in a contact too many":   encodeOverlay(kindShuffle, tenContacts.Message(1, broken)),
		"a group in to":                   encodeOverlay(kindRedirect, (&wire.Writer{}).Message(3, broken)),
	} {
		if _, err := decodeRequest(body, ""); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The contents of unknown messages are not inspected.
	if _, err := decodeRequest(encodeOverlay(kindAttach, (&wire.Writer{}).Bytes(99, group)), ""); err != nil {
		t.Error(err)
	}
}
