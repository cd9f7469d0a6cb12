package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesComeBackAsTheyWere(t *testing.T) {
	for _, n := range []int{1, 127, 128, 1024} {
		body := bytes.Repeat([]byte{7}, n)
		if got, err := ReadFrame(bytes.NewReader(Frame(body)), 1024); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
}

func TestWhatIsNoFrameIsRefusedAsSoonAsItShows(t *testing.T) {
	for what, start := range map[string][]byte{
		"empty":                         {0},
		"too long by one":               {0x81, 0x08},
		"too long whatever follows":     {0xff, 0x88},
		"a third byte of length":        {0x80, 0x80},
		"a length that is not minimal":  {0x81, 0x00},
		"zero that is not minimal":      {0x80, 0x00},
		"a length with no end in sight": bytes.Repeat([]byte{0xff}, 20),
	} {
		// A reader that needs more bytes would read on and find the end of the stream instead.
		if _, err := ReadFrame(bytes.NewReader(start), 1024); !errors.Is(err, ErrNoFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAStreamThatEndsIsNoViolation(t *testing.T) {
	for _, start := range [][]byte{{}, {0x80}, {5, 1, 2}} {
		if _, err := ReadFrame(bytes.NewReader(start), 1024); err == nil || errors.Is(err, ErrNoFrame) {
			t.Errorf("%x: %v", start, err)
		}
	}
}

func TestBytesAfterAFrameAreAViolation(t *testing.T) {
	if err := ReadEnd(bytes.NewReader(nil)); err != nil {
		t.Error(err)
	}
	if err := ReadEnd(bytes.NewReader([]byte{0})); !errors.Is(err, ErrNoFrame) {
		t.Error(err)
	}
	if err := ReadEnd(iotestErr{}); err == nil || errors.Is(err, ErrNoFrame) {
		t.Error(err)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
