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
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/proto"
)

// Where an image holds its own guestd. host/image bakes it in.
const (
	bakedPath = "/usr/lib/waggle/guestd"
	bakedInfo = "/usr/lib/waggle/guestd.json"
	// maxInfo bounds guestd.json, which the image's maker wrote, in bytes.
	maxInfo = 64 << 10
	// maxRefusal bounds what the host is told of an image's guestd, in bytes.
	maxRefusal = 1 << 10
)

// handOver puts the image's guestd in the place of this one, if that is wanted and
// it fits. It returns when this one is to go on; an error is a machine that must
// have the image's and cannot.
func (m *Machine) handOver(own self) error {
	if own.Use == useHost {
		return nil
	}
	take, refused := takeBaked(own, "/")
	if take {
		refused = execBaked(handed{m.watch, m.off})
	}
	switch {
	case refused != nil && own.Use == useBaked:
		return fmt.Errorf("WAGGLE_GUESTD is baked, and the image's guestd cannot be used: %w; "+
			"bake one in with `waggle image bake`, or set WAGGLE_GUESTD to auto", refused)
	case refused != nil && !errors.Is(refused, fs.ErrNotExist):
		m.refused = refused.Error()
		m.refused = m.refused[:min(len(m.refused), maxRefusal)]
		m.log.Warn("image's guestd not used", slog.Any("err", refused))
	}
	return nil
}

// takeBaked says whether the image below root has a guestd that is to take over,
// and if it is not to, why it cannot. The very same binary need not be started a
// second time.
func takeBaked(own self, root string) (bool, error) {
	baked, err := readBaked(root)
	if err != nil {
		return false, err
	}
	if baked.ProtocolMin > proto.GuestProtocolMax || baked.ProtocolMax < proto.GuestProtocolMin {
		return false, fmt.Errorf("%.64q speaks protocol %d to %d, this waggle %d to %d", baked.Version,
			baked.ProtocolMin, baked.ProtocolMax, proto.GuestProtocolMin, proto.GuestProtocolMax)
	}
	same := own.Digest != "" && baked.Digest == own.Digest
	return !same || own.Use == useBaked, nil
}

// readBaked wraps fs.ErrNotExist when the image has no guestd at all.
func readBaked(root string) (Info, error) {
	file, err := os.Open(filepath.Join(root, bakedInfo))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("it has no %s: %w", bakedInfo, fs.ErrNotExist)
	}
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	var info Info
	if err := json.NewDecoder(io.LimitReader(file, maxInfo)).Decode(&info); err != nil {
		return Info{}, fmt.Errorf("parse %s: %w", bakedInfo, err)
	}
	st, err := os.Stat(filepath.Join(root, bakedPath))
	if err != nil {
		return Info{}, fmt.Errorf("%s is there, %s is not", bakedInfo, bakedPath)
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
