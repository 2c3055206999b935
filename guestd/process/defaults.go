// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"maps"
	"sync"

	"github.com/stacklok/waggle/guestd/process/spawn"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultTerm = "xterm-256color"
)

// Defaults is what the machine was configured with for commands that say
// nothing else. Its methods may be called concurrently; a change applies to the
// commands that start after it.
type Defaults struct {
	mu   sync.Mutex
	user string
	cwd  string
	env  map[string]string
}

// NewDefaults returns defaults with the given workload user, a name or uid.
func NewDefaults(user string) *Defaults { return &Defaults{user: user} }

// SetUser sets the workload user.
func (d *Defaults) SetUser(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user = user
}

// SetCwd sets the working directory; empty means the user's home.
func (d *Defaults) SetCwd(cwd string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cwd = cwd
}

// SetEnv replaces the variables. The map is copied.
func (d *Defaults) SetEnv(env map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.env = maps.Clone(env)
}

// User returns the workload user.
func (d *Defaults) User() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.user
}

// command fills in what start leaves open. An error is a *spawn.Failure.
func (d *Defaults) command(start *guestv1.Start) (*spawn.Command, error) {
	d.mu.Lock()
	name, cwd, extra := d.user, d.cwd, d.env // SetEnv replaces the map, never changes it
	d.mu.Unlock()
	if start.GetUser() != "" {
		name = start.GetUser()
	}
	if start.GetAsRoot() {
		name = "0"
	}
	user, err := spawn.FindUser(name)
	if err != nil {
		return nil, err
	}
	if cwd == "" {
		cwd = user.Home
	}
	if start.GetCwd() != "" {
		cwd = start.GetCwd()
	}
	env := map[string]string{
		"PATH":    defaultPath,
		"HOME":    user.Home,
		"USER":    user.Name,
		"LOGNAME": user.Name,
		"SHELL":   user.Shell,
		"LANG":    "C.UTF-8",
	}
	maps.Copy(env, extra)
	if pty := start.GetPty(); pty != nil {
		env["TERM"] = defaultTerm
		if pty.GetTerm() != "" {
			env["TERM"] = pty.GetTerm()
		}
	}
	maps.Copy(env, start.GetEnv())
	cmd := &spawn.Command{
		Argv: start.GetArgv().GetArgs(),
		Dir:  cwd,
		User: user,
		Root: start.GetAsRoot(),
		Pty:  start.GetPty() != nil,
	}
	if start.GetArgv() == nil {
		cmd.Argv = []string{"/bin/sh", "-c", start.GetShell()}
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd, nil
}
