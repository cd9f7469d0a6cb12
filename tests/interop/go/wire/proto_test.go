package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	decoded, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func scan(message []byte) error {
	for _, err := range Fields(message) {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestWhatIsMalformed(t *testing.T) {
	for what, text := range map[string]string{
		"a key of two bytes where one does":      "880000",
		"a value of two bytes where one does":    "088100",
		"a length of two bytes where one does":   "0a8000",
		"zero in ten bytes":                      "0880808080808080808000",
		"a varint of eleven bytes":               "088080808080808080808001",
		"a varint of 2^64":                       "0880808080808080808002",
		"a varint that does not end":             "08ffff",
		"field number 0":                         "0001",
		"field number 0 with a length":           "0200",
		"field number 2^29":                      "808080801000",
		"a key of 33 bits that would be field 1": "888080801000",
		"the start of a group":                   "0b",
		"a group":                                "0b0c",
		"the end of a group":                     "0c",
		"wire type 6":                            "0e",
		"wire type 7":                            "0f",
		"an unknown group":                       "a306a406",
		"a length past the end":                  "0a0200",
		"a length of 2^63":                       "0a80808080808080808001",
		"a fixed64 cut short":                    "0900000000000000",
		"a fixed32 cut short":                    "0d000000",
		"a key and nothing":                      "0a",
	} {
		if err := scan(unhex(t, text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWhatIsNotMalformed(t *testing.T) {
	for what, text := range map[string]string{
		"nothing":                        "",
		"the largest varint":             "08ffffffffffffffffff01",
		"zero":                           "0800",
		"field number 2^29-1":            "f8ffffff0f00",
		"fields of all four wire types":  "a00601a1060102030405060708a2060161a50601020304",
		"an empty length-delimited one":  "0a00",
		"what would be a group, unknown": "a206020b0b",
	} {
		if err := scan(unhex(t, text)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestKnownFieldsHaveTheirWireTypeAndStringsAreUTF8(t *testing.T) {
	var text string
	var number uint64
	schema := Schema{1: String(&text), 2: Uint64(&number)}
	for what, broken := range map[string]string{
		"a string as a number": "0800", "a number as a string": "1200", "no UTF-8": "0a01ff", "a surrogate": "0a03eda080",
	} {
		if err := Decode(unhex(t, broken), schema); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Any order, twice, and an explicit zero.
	if err := Decode(unhex(t, "10050a016110000a0162"), schema); err != nil || text != "b" || number != 0 {
		t.Errorf("%q, %d: %v", text, number, err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	written := (&Writer{}).Uint(1, 1<<64-1).Fixed64(2, 7).Bytes(1<<29-1, []byte("x")).Out
	var numbers []uint64
	for field, err := range Fields(written) {
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, field.Value)
		if field.Number == 1<<29-1 && !bytes.Equal(field.Bytes, []byte("x")) {
			t.Errorf("%x", field.Bytes)
		}
	}
	if len(numbers) != 3 || numbers[0] != 1<<64-1 || numbers[1] != 7 {
		t.Error(numbers)
	}
}
