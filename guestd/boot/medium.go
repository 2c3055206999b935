// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	waggleDir = "/lib/waggle"
	bootFile  = waggleDir + "/boot.json"
)

// Info is the identity of a guestd, in boot.json of the boot medium and beside
// the binary that was baked into an image.
type Info struct {
	Version     string `json:"version"`
	ProtocolMin uint32 `json:"protocol_min"`
	ProtocolMax uint32 `json:"protocol_max"`
	// Digest of the binary, as "sha256:<hex>".
	Digest string `json:"digest"`
}

// The values of self.Use.
const (
	useAuto  = "auto"  // the image's guestd where it fits; empty means the same
	useBaked = "baked" // the image's guestd or no machine
	useHost  = "host"  // never the image's guestd
)

// self is this guestd, and whether it is to hand over to the image's.
type self struct {
	Info
	Use string `json:"use,omitempty"`
}

// medium is boot.json of the initial file system or boot disk.
type medium struct {
	Guestd self `json:"guestd"`
	// PowerOff is how this machine's VMM is left.
	PowerOff powerOff `json:"power_off"`
}

// readMedium reads boot.json. A boot medium without that file is fine.
func readMedium() (medium, error) {
	data, err := os.ReadFile(bootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return medium{}, nil
	}
	if err != nil {
		return medium{}, fmt.Errorf("read boot.json: %w", err)
	}
	return parseMedium(data)
}

func parseMedium(data []byte) (medium, error) {
	var found medium
	if err := json.Unmarshal(data, &found); err != nil {
		return medium{}, fmt.Errorf("parse boot.json: %w", err)
	}
	return found, nil
}

// dropInitVariables forgets what the init of the boot medium was told: neither
// stage 2 nor a command has a use for it.
func dropInitVariables() error {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "KRUN_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("unset %s: %w", name, err)
		}
	}
	return nil
}
