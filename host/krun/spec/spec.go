// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
)

// Descriptors that waggle-krun inherits. Standard input is empty, standard error
// is read by the supervisor.
const (
	// SpecFD has the Machine.
	SpecFD = 3
	// AliveFD never has anything to read. Its end means that the supervisor is
	// gone, and the machine with it.
	AliveFD = 4
	// ReportFD takes what the jail shows (Shown) from the first stage, and one
	// Report right before libkrun takes the process over.
	ReportFD = 5
	// NICFD is the machine's network connection, if it has one.
	NICFD = 6
)

// Names in Machine.Dir.
const (
	// GuestSocket is libkrun's: each connection is a stream to guestd.
	GuestSocket = "guestd.sock"
	// ReadySocket is the supervisor's: each connection is a stream from guestd.
	ReadySocket = "ready.sock"
	// Console is a pipe, which the supervisor reads.
	Console = "console"
)

// Guest side of the boot disk.
const (
	// Exec is the program that libkrun's init becomes.
	Exec = "/lib/waggle/guestd"
	// BootJSON says that the boot medium is Waggle's.
	BootJSON = "/lib/waggle/boot.json"
)

// MaxCPUs is what the kernel of libkrunfw is built for.
const MaxCPUs = 16

// maxSpec bounds a Machine as JSON, in bytes.
const maxSpec = 64 << 10

// Confinement is what keeps a VMM that its guest has taken over.
type Confinement string

// The values of Confinement.
const (
	// Namespaces is a file system, network and process table of its own.
	Namespaces Confinement = "namespaces"
	// Landlock restricts files and TCP where namespaces are refused.
	Landlock Confinement = "landlock"
	// Unconfined is macOS.
	Unconfined Confinement = "none"
)

// Disk is a raw image. The first one is /dev/vda.
type Disk struct {
	// Name is for messages, and the file's name in the jail.
	Name     string `json:"name"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// User is whom stage one becomes.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Machine is one machine.
type Machine struct {
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memory_mib"`
	Disks     []Disk `json:"disks"`
	// MAC of the network card; empty without one.
	MAC string `json:"mac,omitempty"`
	// Dir is the machine's directory for its sockets and its console.
	Dir string `json:"dir"`
	// Temp is libkrun's TMPDIR. Stage one makes it.
	Temp string `json:"temp,omitempty"`
	// Runner is waggle-krun itself, Library and Firmware are libkrun and
	// libkrunfw.
	Runner   string `json:"runner"`
	Library  string `json:"library"`
	Firmware string `json:"firmware"`
	// KVM is the hypervisor's device; empty where there is none to open.
	KVM string `json:"kvm,omitempty"`
	// User is nil for the one that runs stage one.
	User *User `json:"user,omitempty"`
	// Confine is what stage one shall use, or has used.
	Confine Confinement `json:"confine"`
	// Reason says why it is not Namespaces. May be empty.
	Reason string `json:"reason,omitempty"`
}

// Shown are the host's paths by those of the jail, for the words of errors.
type Shown map[string]string

// Report is what the second stage says before it enters: everything is
// configured, and how it is confined.
type Report struct {
	Confine Confinement `json:"confine"`
	Reason  string      `json:"reason,omitempty"`
}

// Read reads and checks a Machine.
func Read(r io.Reader) (Machine, error) {
	var m Machine
	if err := json.NewDecoder(io.LimitReader(r, maxSpec)).Decode(&m); err != nil {
		return Machine{}, fmt.Errorf("read machine: %w", err)
	}
	if err := m.Check(); err != nil {
		return Machine{}, fmt.Errorf("read machine: %w", err)
	}
	return m, nil
}

// Check says what is wrong with the machine, naming the field.
func (m *Machine) Check() error {
	switch {
	case m.CPUs < 1 || m.CPUs > MaxCPUs:
		return fmt.Errorf("machine with %d CPUs: libkrun's kernel runs 1 to %d", m.CPUs, MaxCPUs)
	case m.MemoryMiB < 1 || int64(m.MemoryMiB) >= 1<<32:
		return fmt.Errorf("machine with %d MiB of memory", m.MemoryMiB)
	case len(m.Disks) == 0 || !m.Disks[0].ReadOnly:
		return errors.New("machine without a read-only boot disk")
	case m.Confine != Namespaces && m.Confine != Landlock && m.Confine != Unconfined:
		return fmt.Errorf("unknown confinement %q", m.Confine)
	}
	paths := map[string]string{"dir": m.Dir, "runner": m.Runner, "library": m.Library, "firmware": m.Firmware}
	for _, d := range m.Disks {
		paths["disk "+d.Name] = d.Path
		if d.Name == "" || filepath.Base(d.Name) != d.Name {
			return fmt.Errorf("disk %q has no plain name", d.Name)
		}
	}
	for field, path := range paths {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s: path %q is not absolute", field, path)
		}
	}
	if m.MAC == "" {
		return nil
	}
	if mac, err := net.ParseMAC(m.MAC); err != nil || len(mac) != 6 {
		return fmt.Errorf("mac %q is not a 6-byte hardware address", m.MAC)
	}
	return nil
}
