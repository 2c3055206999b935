// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"time"

	"github.com/stacklok/waggle/host/egress"
)

// maxSpec bounds a spec or a record, in bytes.
const maxSpec = 1 << 20

// Spec is what one machine is made of. It goes to the supervisor by its standard
// input and stays in vm.json.
type Spec struct {
	// ID names the machine everywhere: a DNS label, so that it can be its host
	// name too.
	ID string `json:"id"`
	// Name is what its maker calls it, for people. May be empty.
	Name string `json:"name,omitempty"`
	// Owner is the identity of the server's that made it. Empty: the operator.
	Owner string `json:"owner,omitempty"`
	// Key is the idempotency key of the call that made it, KeySum tells the call's
	// parameters apart.
	Key    string `json:"key,omitempty"`
	KeySum string `json:"key_sum,omitempty"`
	// Runtime or image that was asked for, and the image that it meant.
	Runtime     string `json:"runtime,omitempty"`
	Image       string `json:"image,omitempty"`
	ImageDigest string `json:"image_digest,omitempty"`
	// RootDisk is the shared, read-only disk. Empty: the guest stays in its
	// initial file system.
	RootDisk string `json:"root_disk,omitempty"`
	// ScratchPath is where the machine's own disk of DiskMiB is made; it goes
	// with the machine. Empty: no disk.
	ScratchPath string `json:"scratch_path,omitempty"`
	DiskMiB     int    `json:"disk_mib,omitempty"`
	CPUs        int    `json:"cpus"`
	MemoryMiB   int    `json:"memory_mib"`
	// Network is open or none.
	Network egress.Mode `json:"network"`
	// Env, Cwd and User are the defaults of every exec. Empty Cwd is the user's
	// home. User is what the image names; for nobody or root it is sandbox.
	Env  map[string]string `json:"env,omitempty"`
	Cwd  string            `json:"cwd,omitempty"`
	User string            `json:"user,omitempty"`
	// Results bounds what guestd keeps of ended execs.
	Results ResultLimits `json:"results,omitzero"`
	// Limits; zero is none. IdleTimeout counts from the end of the last
	// activity, MaxLifetime from the start of the supervisor, OrphanTimeout from
	// when the last holder went.
	IdleTimeout   time.Duration `json:"idle_timeout_ns,omitempty"`
	MaxLifetime   time.Duration `json:"max_lifetime_ns,omitempty"`
	OrphanTimeout time.Duration `json:"orphan_timeout_ns,omitempty"`
	// Backend is for whoever makes the vm.Backend: kernel, guestd, accelerator.
	Backend json.RawMessage `json:"backend,omitempty"`
}

// ResultLimits bound what is kept of ended execs. Zero is guestd's own limit.
type ResultLimits struct {
	Age       time.Duration `json:"age_ns,omitempty"`
	Count     uint32        `json:"count,omitempty"`
	OutputMiB uint32        `json:"output_mib,omitempty"`
}

var validID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckID says whether id can name a machine.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("environment id %.80q is malformed: it has 1 to 63 characters of a-z, 0-9 and '-'", id)
	}
	return nil
}

// Check says what is wrong with the spec, naming the field.
func (s *Spec) Check() error {
	if err := CheckID(s.ID); err != nil {
		return err
	}
	switch {
	case s.CPUs < 1:
		return fmt.Errorf("cpus is %d: give at least 1", s.CPUs)
	case s.MemoryMiB < 1:
		return fmt.Errorf("memory is %d MiB: give at least 1", s.MemoryMiB)
	case s.Network != egress.Open && s.Network != egress.None:
		return fmt.Errorf("network is %q: choose open or none", s.Network)
	case s.RootDisk != "" && !filepath.IsAbs(s.RootDisk):
		return fmt.Errorf("root disk %q is not an absolute path", s.RootDisk)
	case s.ScratchPath != "" && !filepath.IsAbs(s.ScratchPath):
		return fmt.Errorf("scratch disk %q is not an absolute path", s.ScratchPath)
	case s.ScratchPath != "" && s.RootDisk == "":
		return fmt.Errorf("scratch disk %s without a root disk: the guest could not tell them apart", s.ScratchPath)
	case s.IdleTimeout < 0 || s.MaxLifetime < 0 || s.OrphanTimeout < 0:
		return fmt.Errorf("a timeout is negative: give zero for none")
	}
	return nil
}

// ReadSpec reads and checks what Spawn wrote.
func ReadSpec(r io.Reader) (Spec, error) {
	var s Spec
	if err := json.NewDecoder(io.LimitReader(r, maxSpec)).Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("read spec: %w", err)
	}
	if err := s.Check(); err != nil {
		return Spec{}, fmt.Errorf("read spec: %w", err)
	}
	return s, nil
}
