// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"maps"
	"os"
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
	// last is who that was when it was last found.
	last *spawn.User
	cwd  string
	env  map[string]string
}

// NewDefaults returns defaults with the given workload user, a name or uid.
func NewDefaults(user string) *Defaults { return &Defaults{user: user} }

// SetUser sets the workload user.
func (d *Defaults) SetUser(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user, d.last = user, nil
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

// Account finds the workload user. When passwd(5) no longer knows it, because
// something in the guest has broken the file, it is who it was before: the commands
// that could mend the file run on. An error is a *spawn.Failure.
func (d *Defaults) Account() (*spawn.User, error) {
	name := d.User()
	found, err := spawn.FindUser(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.user != name: // changed meanwhile
	case err == nil:
		d.last = found
	case d.last != nil:
		return d.last, nil
	}
	return found, err
}

// account finds who a command is for.
func (d *Defaults) account(start *guestv1.Start) (*spawn.User, error) {
	switch {
	case start.GetAsRoot():
		return spawn.FindUser("0")
	case start.GetUser() != "":
		return spawn.FindUser(start.GetUser())
	}
	return d.Account()
}

// homeOf is where a command of a user starts that has named no directory: a user of
// the system may have a home that nobody has made, for which login(1) takes / too.
func homeOf(user *spawn.User, start *guestv1.Start) string {
	if start.GetUser() != "" {
		if _, err := os.Stat(user.Home); err != nil {
			return "/"
		}
	}
	return user.Home
}

// command fills in what start leaves open. An error is a *spawn.Failure.
func (d *Defaults) command(start *guestv1.Start) (*spawn.Command, error) {
	d.mu.Lock()
	cwd, extra := d.cwd, d.env // SetEnv replaces the map, never changes it
	d.mu.Unlock()
	user, err := d.account(start)
	if err != nil {
		return nil, err
	}
	if cwd == "" {
		cwd = homeOf(user, start)
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
