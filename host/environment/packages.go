// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// MaxPackages is the most packages of one call.
	MaxPackages = 100
	// installTimeout is long because an emulated machine compiles slowly.
	installTimeout = 15 * time.Minute
)

// packagePattern is what the managers' names, versions and extras are made of:
// no white space, no leading dash that would be an option.
var packagePattern = regexp.MustCompile(`^[A-Za-z0-9@][^\s\x00-\x1f\x7f]{0,255}$`)

// InstallTimeout is the longest that InstallPackages runs.
func InstallTimeout() time.Duration { return installTimeout + execSlack }

// InstallRequest says what to install.
type InstallRequest struct {
	// Packages as the manager names them, versions included.
	Packages []string
	// Manager is pip, npm, apt, apk or dnf; empty: the one of the runtime, or, if
	// the environment was made of an image, the first that it has.
	Manager string
	// Line, when not nil, is told each line that the manager writes.
	Line func(string)
}

// InstallResult says what was installed.
type InstallResult struct {
	Manager string
	// Installed lists "name version", where the manager says it.
	Installed []string
	Duration  time.Duration
}

// InstallPackages installs packages. The end of ctx ends the install.
func (m *Manager) InstallPackages(ctx context.Context, id string, req InstallRequest) (InstallResult, error) {
	if err := errors.Join(checkID(id), checkInstall(req)); err != nil {
		return InstallResult{}, err
	}
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return InstallResult{}, err
	}
	defer c.done()
	r, err := m.install(ctx, c, req)
	return r, c.explain(ctx, err)
}

func (m *Manager) install(ctx context.Context, c *call, req InstallRequest) (InstallResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, InstallTimeout(), fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	rt, err := m.runtimeOf("runtime", c.info.Runtime)
	if err == nil && len(rt.install) > 0 && req.Manager == "" {
		return installByCommand(ctx, c.machine.Guest(), rt.install, req)
	}
	progress := guest.InstallProgress{}
	if req.Line != nil {
		progress.Line = func(l string) { req.Line(plain(l, maxGuestText)) }
	}
	done, err := c.machine.Guest().Install(ctx, &guestv1.PackagesInstallRequest{
		Manager: managerOf(req, rt), Packages: req.Packages, Timeout: durationpb.New(installTimeout),
	}, progress)
	if connect.CodeOf(err) == connect.CodeFailedPrecondition && connect.IsWireError(err) {
		var ce *connect.Error
		errors.As(err, &ce)
		return InstallResult{}, fmt.Errorf("%w: %s", ErrNoManager, plain(ce.Message(), maxGuestText))
	}
	if err != nil {
		return InstallResult{}, guestError(ctx, "install packages", err)
	}
	name := managerName(done.GetManager())
	if f := done.GetFailure(); f != nil {
		return InstallResult{}, installError(name, f)
	}
	r := InstallResult{Manager: name, Duration: done.GetDuration().AsDuration(), Installed: []string{}}
	for _, p := range done.GetInstalled()[:min(len(done.GetInstalled()), 10*MaxPackages)] {
		r.Installed = append(r.Installed, plain(p, 256))
	}
	return r, nil
}

func checkInstall(req InstallRequest) error {
	var errs []error
	if len(req.Packages) == 0 {
		errs = append(errs, invalid("packages", "is empty: give names separated by spaces, such as \"numpy pandas==2.2.0\""))
	}
	if len(req.Packages) > MaxPackages {
		errs = append(errs, invalid("packages", "names %d packages, the most is %d a call", len(req.Packages), MaxPackages))
	}
	for _, p := range req.Packages {
		if !packagePattern.MatchString(p) {
			errs = append(errs, invalid("packages", "holds %q, which is no package name: options and paths are not taken", plain(p, 64)))
			break
		}
	}
	if _, known := managers[req.Manager]; req.Manager != "" && !known {
		errs = append(errs, invalid("manager", "%q is not one of %s", plain(req.Manager, 64),
			strings.Join(slices.Sorted(maps.Keys(managers)), ", ")))
	}
	return errors.Join(errs...)
}

// managerOf is the manager that the caller named, or the one of the runtime. An
// environment of an image, which has no runtime, leaves the choice to guestd.
func managerOf(req InstallRequest, rt runtime) guestv1.PackageManager {
	if req.Manager != "" {
		return managers[req.Manager]
	}
	return rt.manager
}

// installHints say what to do about a failure.
var installHints = map[guestv1.InstallFailureKind]string{
	guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE: "check the names and versions",
	guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK:         "the package index could not be reached: try again, or check the host's network and proxy",
	guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NO_SPACE:        "the disk is full: remove files, or ask for a larger WAGGLE_DEFAULT_DISK_MB",
	guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_TIMEOUT:         "it took too long: install fewer packages at a time",
	guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_OUT_OF_MEMORY:   "memory ran out: ask for a larger WAGGLE_DEFAULT_MEMORY_MB",
}

func installError(manager string, f *guestv1.InstallFailure) error {
	hint := installHints[f.GetKind()]
	if hint == "" {
		hint = "its last lines say why"
	}
	return fmt.Errorf("%w: %s (exit code %d): %s\n%s", ErrInstall, manager, f.GetExitCode(), hint, plain(f.GetMessage(), 8<<10))
}
