package batch

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	topicHead = "/diatribe/1/"
	maxRoom   = 64
)

// CheckRoom returns the fault of a room's name, or nil.
func CheckRoom(name string) error {
	switch {
	case len(name) < 1 || len(name) > maxRoom:
		return errors.New("a room has a name of 1 to 64 bytes")
	case !utf8.ValidString(name) || !norm.NFC.IsNormalString(name):
		return errors.New("a room's name is UTF-8 in NFC")
	case strings.ContainsFunc(name, forbidden):
		return errors.New("a character is not allowed in a room's name")
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return errors.New("a room's name neither begins nor ends with a space")
	}
	return nil
}

func forbidden(r rune) bool {
	switch {
	case r == '/', unicode.Is(unicode.Cc, r), r != ' ' && unicode.Is(unicode.White_Space, r):
		return true
	case r == 0x200b, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2069, r == 0xfeff:
		return true
	}
	return false
}

// NFC is how a name that a person typed is written.
func NFC(name string) string { return norm.NFC.String(name) }

// TopicOf is the gossipsub topic of a room.
func TopicOf(room string) string { return topicHead + room }

// RoomOf is the room of a topic, if it is one.
func RoomOf(topic string) (string, bool) {
	room, found := strings.CutPrefix(topic, topicHead)
	return room, found && CheckRoom(room) == nil
}
