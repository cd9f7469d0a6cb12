// Package handshake is the handshake of one connection as a pure state machine: bytes in, bytes out, both roles, both
// rounds. The node carries the frames over streams, keeps the deadlines and opens the gate.
//
// Entry points: Dial and Listen, then Receive for every inbound frame. The rule it keeps: one frame is due at any
// time, by kind and by direction, and every other one ends the handshake.
package handshake

import (
	"fmt"

	"diatribe.invalid/peer/identity"
)

const (
	// Protocol is its protocol id.
	Protocol = "/diatribe/handshake/1.0.0"
	// MaxFrame is the largest frame, in bytes.
	MaxFrame = 1024
	// Version is the one that this node speaks.
	Version = 2
)

// Code is why a server refuses.
type Code uint32

// The codes of the contract. An unknown one counts as AUTH.
const (
	CodeAuth Code = 1 + iota
	CodeVersion
	CodeNetwork
	CodeDuplicateIdentity
	CodeBusy
	CodePolicy
)

func (c Code) String() string {
	names := []string{"AUTH", "AUTH", "VERSION", "NETWORK", "DUPLICATE_IDENTITY", "BUSY", "POLICY"}
	if int(c) >= len(names) {
		return "AUTH"
	}
	return names[c]
}

// Refused is a failed check: the code, which is sent to the peer, and the reason, which is not.
type Refused struct {
	Code   Code
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

func auth(reason string) *Refused { return &Refused{CodeAuth, reason} }

// Rejected is the peer's refusal.
type Rejected struct{ Code Code }

func (r *Rejected) Error() string {
	if r.Code == CodeNetwork {
		return "the peer refused this node with NETWORK: the network keys differ"
	}
	return fmt.Sprintf("the peer refused this node with %s", r.Code)
}

// Violation is a frame that was not due: the connection is closed without a word.
type Violation struct{ Reason string }

func (v *Violation) Error() string { return v.Reason }

// Local is the input of a node for every handshake.
type Local struct {
	Identity *identity.Identity
	// Instance is 16 bytes, random for each start of the process.
	Instance []byte
	// NetworkKey is nil on the open network.
	NetworkKey []byte
	// OlderKey is the network key before it, nil when there is none: a network changes its key while nodes run.
	OlderKey []byte
}

// networkKey returns the network key, or 32 zeros on the open network.
func (l *Local) networkKey() []byte {
	if l.NetworkKey == nil {
		return zeros
	}
	return l.NetworkKey
}

// Step is the next action after a frame.
type Step struct {
	// Respond is sent on the stream of the frame, Request on a new one.
	Respond, Request []byte
	// Proved: the peer has just proved its key to this side as server: decide whether to take it, before Respond.
	Proved bool
	// OpenInbound: take the peer's gated streams before the frame goes out.
	OpenInbound bool
	// Passed: with the frames above sent, this side is done.
	Passed bool
}

// Machine is one side of one handshake.
type Machine struct {
	local   *Local
	remote  []byte
	dialer  bool
	entropy func() Entropy
	round   *round
	due     int
}

// Dial begins as the connection's dialer: the first request.
func Dial(local *Local, remote []byte, entropy func() Entropy) (*Machine, []byte) {
	m := newMachine(local, remote, true, entropy)
	m.due = kindChallenge
	return m, m.round.hello()
}

// Listen begins as the connection's listener: a Hello is due.
func Listen(local *Local, remote []byte, entropy func() Entropy) *Machine {
	m := newMachine(local, remote, false, entropy)
	m.due = kindHello
	return m
}

func newMachine(local *Local, remote []byte, dialer bool, entropy func() Entropy) *Machine {
	m := &Machine{local: local, remote: remote, dialer: dialer, entropy: entropy}
	m.round = &round{local: local, remote: remote, number: 1, prev: zeros, entropy: entropy()}
	return m
}

// Round is 1 or 2.
func (m *Machine) Round() int { return int(m.round.number) }

// Serving says whether the frame that is due is a request.
func (m *Machine) Serving() bool { return m.due == kindHello || m.due == kindAnswer }

// Due names the frame that is due.
func (m *Machine) Due() string { return kindNames[m.due] }

// PeerInstance is the instance id that the peer has shown.
func (m *Machine) PeerInstance() []byte { return m.round.peer.instance }

// Receive processes an inbound frame. Its errors are *Refused, *Rejected and *Violation.
func (m *Machine) Receive(body []byte) (Step, error) {
	f, err := decodeFrame(body)
	if err != nil {
		return Step{}, err
	}
	if f.kind == kindReject && !m.Serving() && m.due != 0 {
		m.due = 0
		return Step{}, &Rejected{Code(f.code)}
	}
	if f.kind != m.due {
		return Step{}, &Violation{fmt.Sprintf("the peer sent %s where %s was due", kindNames[f.kind], m.Due())}
	}
	m.due = 0
	switch f.kind {
	case kindHello:
		challenge, err := m.round.onHello(f)
		m.due = kindAnswer
		return Step{Respond: challenge}, err
	case kindChallenge:
		answer, err := m.round.onChallenge(f)
		m.due = kindPass
		return Step{Request: answer, OpenInbound: !m.dialer}, err
	case kindAnswer:
		pass, err := m.round.onAnswer(f)
		if err != nil {
			return Step{}, err
		}
		step := Step{Respond: pass, Proved: true, OpenInbound: m.dialer, Passed: m.dialer}
		if !m.dialer {
			m.second()
			step.Request, m.due = m.round.hello(), kindChallenge
		}
		return step, nil
	default:
		if err := m.round.onPass(f); err != nil {
			return Step{}, err
		}
		if !m.dialer {
			return Step{Passed: true}, nil
		}
		m.second()
		m.due = kindHello
		return Step{}, nil
	}
}

func (m *Machine) second() {
	done := m.round
	m.round = &round{
		local: m.local, remote: m.remote, number: 2, prev: done.t.end, first: done.peer, entropy: m.entropy(), peer: done.peer,
	}
}
