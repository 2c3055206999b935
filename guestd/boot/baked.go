// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/proto"
)

// Where an image holds its own guestd. host/image bakes it in.
const (
	bakedPath = "/usr/lib/waggle/guestd"
	bakedInfo = "/usr/lib/waggle/guestd.json"
	// maxInfo bounds guestd.json, which the image's maker wrote, in bytes.
	maxInfo = 64 << 10
)

// bakedAgent says whether the image's guestd shall take over from this one.
func bakedAgent(self Info, log *slog.Logger) bool {
	baked, err := readBaked()
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		log.Warn("image's guestd not used", slog.Any("err", err))
		return false
	}
	if self.Digest != "" && baked.Digest == self.Digest {
		return false
	}
	if baked.ProtocolMin > proto.GuestProtocolMax || baked.ProtocolMax < proto.GuestProtocolMin {
		log.Warn("image's guestd not used: no common protocol",
			slog.String("version", baked.Version),
			slog.Any("image", []uint32{baked.ProtocolMin, baked.ProtocolMax}),
			slog.Any("host", []uint32{proto.GuestProtocolMin, proto.GuestProtocolMax}))
		return false
	}
	return true
}

func readBaked() (Info, error) {
	file, err := os.Open(bakedInfo)
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	var info Info
	if err := json.NewDecoder(io.LimitReader(file, maxInfo)).Decode(&info); err != nil {
		return Info{}, fmt.Errorf("parse %s: %w", bakedInfo, err)
	}
	st, err := os.Stat(bakedPath)
	if err != nil {
		return Info{}, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
		return Info{}, fmt.Errorf("%s is not an executable file", bakedPath)
	}
	return info, nil
}

// execBaked replaces this process. It returns only when that fails.
func execBaked(left handed) error {
	env, err := left.environ()
	if err != nil {
		return err
	}
	if err := unix.Exec(bakedPath, []string{bakedPath}, env); err != nil {
		return fmt.Errorf("exec %s: %w", bakedPath, err)
	}
	return nil
}
