// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxVariables and MaxVariableBytes bound the variables of a caller.
	MaxVariables     = 100
	MaxVariableBytes = 64 << 10
	// MaxKey is the longest idempotency key.
	MaxKey = 64
)

// Networks are the ways in which an environment reaches others, the default first.
func Networks() []string { return []string{"open", "none"} }

// CreateOptions say what environment to make.
type CreateOptions struct {
	// Runtime is one of the manager's Runtimes, Image a reference: one of the two.
	// With neither the runtime is DefaultRuntime.
	Runtime, Image string
	// Name is for people; may be empty.
	Name string
	// Idle ends the environment when nothing has run in it for so long. Zero:
	// the configured default.
	Idle time.Duration
	// CPUs and MemoryMiB are its size, within the manager's bounds. Zero: the
	// configured default.
	CPUs, MemoryMiB uint32
	// Env are variables of all its commands, on top of the image's.
	Env map[string]string
	// Network is one of Networks; empty: the first.
	Network string
	// Key makes a call that is repeated return the environment that it has made, also
	// while that is being made and under a later server, until it has ended. Keys of
	// other identities are others.
	Key string
}

var (
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	keyPattern      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// request checks the options and completes them.
func (m *Manager) request(o CreateOptions) (Request, error) {
	sum, err := o.sum()
	err = errors.Join(err, m.checkKind(&o), m.checkSize(&o), o.checkEnv())
	if utf8.RuneCountInString(o.Name) > MaxName || strings.ContainsFunc(o.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		err = errors.Join(err, invalid("name", "must be at most %d printable characters", MaxName))
	}
	if o.Idle < 0 || o.Idle > MaxIdle {
		err = errors.Join(err, invalid("timeout_minutes", "must be 1 to %d, or left out for %g", int(MaxIdle.Minutes()), m.cfg.Idle.Minutes()))
	}
	if o.Network != "" && !slices.Contains(Networks(), o.Network) {
		err = errors.Join(err, invalid("network", "%q is not one of %s", plain(o.Network, 32), strings.Join(Networks(), ", ")))
	}
	if o.Key != "" && !keyPattern.MatchString(o.Key) {
		err = errors.Join(err, invalid("idempotency_key", "must be 1 to %d letters, digits and . _ -", MaxKey))
	}
	if err != nil {
		return Request{}, err
	}
	if o.Idle == 0 {
		o.Idle = m.cfg.Idle
	}
	return Request{
		ID: NewID(), Name: o.Name, Runtime: o.Runtime, Image: o.Image, Stranger: true,
		CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, DiskMiB: m.cfg.DiskMiB, Env: o.Env, NoNetwork: o.Network == "none",
		IdleTimeout: o.Idle, OrphanTimeout: m.cfg.Orphan, Key: o.Key, KeySum: sum,
	}, nil
}

// checkSize completes the size and checks it.
func (m *Manager) checkSize(o *CreateOptions) (err error) {
	cpus, memory := m.MaxSize()
	if o.CPUs > cpus {
		err = invalid("cpus", "must be 1 to %d, or left out for %d; the server's WAGGLE_MAX_CPUS is the limit", cpus, m.cfg.CPUs)
	}
	if o.MemoryMiB > memory || (o.MemoryMiB > 0 && o.MemoryMiB < MinMemoryMiB) {
		err = errors.Join(err, invalid("memory_mb", "must be %d to %d, or left out for %d; the server's WAGGLE_MAX_MEMORY_MB is the limit",
			MinMemoryMiB, memory, m.cfg.MemoryMiB))
	}
	if o.CPUs == 0 {
		o.CPUs = m.cfg.CPUs
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = m.cfg.MemoryMiB
	}
	return err
}

// MaxSize is the most CPUs and MiB of memory that a caller may ask for.
func (m *Manager) MaxSize() (cpus, memoryMiB uint32) {
	return max(m.cfg.MaxCPUs, m.cfg.CPUs), max(m.cfg.MaxMemoryMiB, m.cfg.MemoryMiB)
}

func (o *CreateOptions) checkEnv() (err error) {
	size := 0
	for name, value := range o.Env {
		size += len(name) + len(value)
		if !variablePattern.MatchString(name) {
			err = errors.Join(err, invalid("env", "%q is no name of a variable: use letters, digits and _", plain(name, 64)))
		}
		if strings.ContainsRune(value, 0) {
			err = errors.Join(err, invalid("env", "the value of %s holds a NUL byte", plain(name, 64)))
		}
	}
	if len(o.Env) > MaxVariables || size > MaxVariableBytes {
		err = errors.Join(err, invalid("env", "has %d variables of %d bytes, the most is %d and %d", len(o.Env), size, MaxVariables, MaxVariableBytes))
	}
	return err
}

// sum tells options apart.
func (o *CreateOptions) sum() (string, error) {
	data, err := json.Marshal(o) // of a map it sorts the keys
	if err != nil {
		return "", fmt.Errorf("compare options: %w", err)
	}
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:16]), nil
}
