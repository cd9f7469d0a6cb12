package wire

import (
	"encoding/binary"
	"errors"
	"iter"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is a message that chapter 4 of the contract calls malformed: bytes that are no protocol buffer, a varint
// that is not minimal, a field number or a wire type that does not exist, or a field of another wire type than its own.
var ErrMalformed = errors.New("the message is malformed")

// Field is one field as received.
type Field struct {
	Number int
	Type   protowire.Type
	// Value is that of a varint or fixed64, Bytes that of a string, of bytes or of a message.
	Value uint64
	Bytes []byte
}

// Fields goes over the fields of a message in their order. It ends with an ErrMalformed where it cannot go on. protowire
// is not asked: it takes varints that are not minimal, groups nested to any depth, and field numbers of up to 2³¹−1.
func Fields(message []byte) iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) {
		for len(message) > 0 {
			field, n := consumeField(message)
			if n == 0 {
				yield(Field{}, ErrMalformed)
				return
			}
			if !yield(field, nil) {
				return
			}
			message = message[n:]
		}
	}
}

// maxKey bounds a field's key: its number, below 2²⁹, and three bits of wire type.
const maxKey = 1<<32 - 1

// consumeField reads the field at the beginning of a message, and returns its size in bytes; 0 when it is malformed.
func consumeField(message []byte) (Field, int) {
	key, size := ConsumeVarint(message)
	if size == 0 || key > maxKey || key>>3 == 0 {
		return Field{}, 0
	}
	field, rest := Field{Number: int(key >> 3), Type: protowire.Type(key & 7)}, message[size:]
	n := 0
	switch field.Type {
	case protowire.VarintType:
		field.Value, n = ConsumeVarint(rest)
	case protowire.Fixed64Type:
		if len(rest) >= 8 {
			field.Value, n = binary.LittleEndian.Uint64(rest), 8
		}
	case protowire.Fixed32Type:
		if len(rest) >= 4 {
			field.Value, n = uint64(binary.LittleEndian.Uint32(rest)), 4
		}
	case protowire.BytesType:
		length, start := ConsumeVarint(rest)
		if start > 0 && length <= uint64(len(rest)-start) {
			n = start + int(length)
			field.Bytes = rest[start:n:n]
		}
	}
	if n == 0 {
		return Field{}, 0
	}
	return field, size + n
}

// ConsumeVarint reads a minimal varint below 2⁶⁴, and returns its size in bytes; 0 when there is none.
func ConsumeVarint(message []byte) (value uint64, size int) {
	for i, b := range message[:min(len(message), binary.MaxVarintLen64)] {
		value |= uint64(b&0x7f) << (7 * i)
		switch {
		case b >= 0x80:
		case b == 0 && i > 0, b > 1 && i == binary.MaxVarintLen64-1:
			return 0, 0
		default:
			return value, i + 1
		}
	}
	return 0, 0
}

// Schema says which fields a message has and where their values go. Other fields are passed over.
type Schema map[int]Slot

// Slot takes the value of a field.
type Slot struct {
	kind protowire.Type
	take func(Field) error
}

// Bytes is a field of bytes; the last one counts.
func Bytes(to *[]byte) Slot {
	return Slot{protowire.BytesType, func(f Field) error { *to = f.Bytes; return nil }}
}

// String is a string, which must be UTF-8; the last one counts.
func String(to *string) Slot {
	return Slot{protowire.BytesType, func(f Field) error {
		if !utf8.Valid(f.Bytes) {
			return ErrMalformed
		}
		*to = string(f.Bytes)
		return nil
	}}
}

// Uint32 is taken modulo 2³², as protocol buffers do.
func Uint32(to *uint32) Slot {
	return Slot{protowire.VarintType, func(f Field) error { *to = uint32(f.Value); return nil }}
}

// Uint64 is a varint.
func Uint64(to *uint64) Slot {
	return Slot{protowire.VarintType, func(f Field) error { *to = f.Value; return nil }}
}

// Bool is a varint that is not zero.
func Bool(to *bool) Slot {
	return Slot{protowire.VarintType, func(f Field) error { *to = f.Value != 0; return nil }}
}

// Fixed64 is eight bytes, little-endian.
func Fixed64(to *uint64) Slot {
	return Slot{protowire.Fixed64Type, func(f Field) error { *to = f.Value; return nil }}
}

// Message is an embedded or a repeated message, or repeated bytes: take is called for each.
func Message(take func([]byte) error) Slot {
	return Slot{protowire.BytesType, func(f Field) error { return take(f.Bytes) }}
}

// Decode reads a message. A field with another wire type than its own makes it malformed.
func Decode(message []byte, schema Schema) error {
	for field, err := range Fields(message) {
		if err != nil {
			return err
		}
		slot, known := schema[field.Number]
		if !known {
			continue
		}
		if field.Type != slot.kind {
			return ErrMalformed
		}
		if err := slot.take(field); err != nil {
			return err
		}
	}
	return nil
}

// Writer encodes a message: fields in the order in which they are put, zero values left out.
type Writer struct{ Out []byte }

// Bytes puts bytes or a string.
func (w *Writer) Bytes(number int, value []byte) *Writer {
	if len(value) == 0 {
		return w
	}
	return w.Message(number, value)
}

// Message puts an embedded message, also an empty one.
func (w *Writer) Message(number int, value []byte) *Writer {
	w.Out = protowire.AppendTag(w.Out, protowire.Number(number), protowire.BytesType)
	w.Out = protowire.AppendBytes(w.Out, value)
	return w
}

// Uint puts a varint.
func (w *Writer) Uint(number int, value uint64) *Writer {
	if value == 0 {
		return w
	}
	w.Out = protowire.AppendTag(w.Out, protowire.Number(number), protowire.VarintType)
	w.Out = protowire.AppendVarint(w.Out, value)
	return w
}

// Bool puts a bool.
func (w *Writer) Bool(number int, value bool) *Writer {
	if !value {
		return w
	}
	return w.Uint(number, 1)
}

// Fixed64 puts eight bytes.
func (w *Writer) Fixed64(number int, value uint64) *Writer {
	if value == 0 {
		return w
	}
	w.Out = protowire.AppendTag(w.Out, protowire.Number(number), protowire.Fixed64Type)
	w.Out = protowire.AppendFixed64(w.Out, value)
	return w
}
