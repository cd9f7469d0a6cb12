// Package vectors reads the published vectors for the tests of the other packages.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Hex is bytes that are written in hex; null is nil.
type Hex []byte

// UnmarshalText reads hex digits.
func (h *Hex) UnmarshalText(text []byte) error {
	decoded, err := hex.DecodeString(string(text))
	*h = decoded
	return err
}

// Read reads proto/vectors/name.
func Read(t *testing.T, name string, into any) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	file, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../../proto/vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, into); err != nil {
		t.Fatal(err)
	}
}
