// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

const (
	defaultTimeout = 10 * time.Minute
	maxPackages    = 100
	maxName        = 512     // bytes
	maxLine        = 4 << 10 // bytes
	maxMessage     = 8 << 10 // bytes
)

// Service answers Packages. Its methods may be called concurrently.
type Service struct {
	execs    guestv1connect.ProcessClient
	managers []manager
	// turn holds a token while nobody installs: managers share databases, and
	// a lock of their own would fail the second one.
	turn chan struct{}
	// fresh has the managers whose lists were fetched since the machine has
	// booted. Whoever has the token may touch it.
	fresh map[guestv1.PackageManager]bool
}

// New returns a Service that runs managers through the given Process service.
func New(execs guestv1connect.ProcessClient) *Service {
	s := &Service{
		execs: execs, managers: managers, turn: make(chan struct{}, 1), fresh: make(map[guestv1.PackageManager]bool),
	}
	s.turn <- struct{}{}
	return s
}

// Install runs a manager and streams what it says.
func (s *Service) Install(
	ctx context.Context, req *connect.Request[guestv1.PackagesInstallRequest],
	stream *connect.ServerStream[guestv1.PackagesInstallResponse],
) error {
	msg := req.Msg
	timeout, err := check(msg)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	m, err := s.choose(ctx, msg.GetManager())
	if err != nil {
		return err
	}
	started := time.Now()
	in := &install{service: s, stream: stream, manager: m, names: msg.GetPackages(), deadline: started.Add(timeout)}
	if err := in.phase("waiting"); err != nil {
		return err
	}
	waitCtx, cancel := context.WithDeadline(ctx, in.deadline)
	defer cancel()
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-waitCtx.Done():
		if err := ctx.Err(); err != nil {
			return err
		}
		return in.done(started, &guestv1.InstallFailure{
			Kind:     guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_TIMEOUT,
			Message:  "another install was running all the time",
			ExitCode: -1,
		})
	}
	failure, err := in.all(ctx)
	if err != nil {
		return err
	}
	return in.done(started, failure)
}

// check returns the time that an install gets. An error names the field.
func check(msg *guestv1.PackagesInstallRequest) (time.Duration, error) {
	if n := len(msg.GetPackages()); n == 0 || n > maxPackages {
		return 0, fmt.Errorf("packages: want 1 to %d, got %d", maxPackages, n)
	}
	for _, name := range msg.GetPackages() {
		bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
		if name == "" || len(name) > maxName || name[0] == '-' || strings.IndexFunc(name, bad) >= 0 {
			return 0, fmt.Errorf("packages: %q is no package name", name)
		}
	}
	if msg.GetTimeout() == nil {
		return defaultTimeout, nil
	}
	timeout := msg.GetTimeout().AsDuration()
	if !msg.GetTimeout().IsValid() || timeout <= 0 {
		return 0, errors.New("timeout: must be positive")
	}
	return timeout, nil
}

func (s *Service) choose(ctx context.Context, kind guestv1.PackageManager) (*manager, error) {
	there, err := s.present(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range there {
		if kind == guestv1.PackageManager_PACKAGE_MANAGER_UNSPECIFIED || kind == m.kind {
			return m, nil
		}
	}
	if kind == guestv1.PackageManager_PACKAGE_MANAGER_UNSPECIFIED {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the image has no package manager that guestd knows"))
	}
	has := "no package manager that guestd knows"
	if len(there) > 0 {
		var names []string
		for _, m := range there {
			names = append(names, managerName(m.kind))
		}
		has = strings.Join(names, ", ")
	}
	return nil, connect.NewError(connect.CodeFailedPrecondition,
		fmt.Errorf("manager: %s is not in the image, which has %s", managerName(kind), has))
}

// present lists the managers that the image has, in order: those whose programs the
// execs that run them would find.
func (s *Service) present(ctx context.Context) ([]*manager, error) {
	var programs []string
	for _, m := range s.managers {
		for _, either := range m.probes {
			programs = append(programs, either...)
		}
	}
	var found map[string]string
	if len(programs) > 0 {
		answer, err := s.execs.Probe(ctx, connect.NewRequest(&guestv1.ProcessProbeRequest{Programs: programs}))
		if err != nil {
			return nil, err
		}
		found = answer.Msg.GetPrograms()
	}
	var there []*manager
	for i := range s.managers {
		if s.managers[i].in(found) {
			there = append(there, &s.managers[i])
		}
	}
	return there, nil
}

func managerName(kind guestv1.PackageManager) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "PACKAGE_MANAGER_"))
}

// install is one call of Install.
type install struct {
	service   *Service
	stream    *connect.ServerStream[guestv1.PackagesInstallResponse]
	manager   *manager
	names     []string
	deadline  time.Time
	out       *lines // of all commands of the plan
	step      step   // of the command that runs
	installed []string
}

// phase begins one that the manager does not name itself.
func (in *install) phase(name string) error {
	in.step = step{phase: name}
	return in.tell()
}

func (in *install) tell() error {
	return in.stream.Send(&guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Phase{
		Phase: &guestv1.InstallPhase{
			Manager: in.manager.kind, Name: in.step.phase, Completed: in.step.completed, Total: in.step.total,
		},
	}})
}

// all runs the commands of the manager. Lists that an image brings along may be
// months old: the manager then asks for packages that are no longer there, or does
// not know one that is. So they are fetched, once, and it is tried again.
func (in *install) all(ctx context.Context) (*guestv1.InstallFailure, error) {
	refresh := in.manager.stale != nil && in.manager.stale()
	failure, err := in.follow(ctx, refresh)
	fresh := refresh || in.service.fresh[in.manager.kind]
	if err != nil || failure == nil || fresh || !in.manager.outdated(failure) {
		return failure, err
	}
	return in.follow(ctx, true)
}

// follow runs a plan up to the first command that fails.
func (in *install) follow(ctx context.Context, refresh bool) (failure *guestv1.InstallFailure, err error) {
	in.out = newLines(in.line)
	for _, c := range in.manager.plan(in.names, refresh) {
		if err := in.phase(c.phase); err != nil {
			return nil, err
		}
		if failure, err = in.run(ctx, c); failure != nil || err != nil {
			break
		}
	}
	// A manager may call it a success that it could fetch nothing.
	if refresh && err == nil && failure.GetKind() != guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK {
		in.service.fresh[in.manager.kind] = true
	}
	return failure, err
}

func (in *install) done(started time.Time, failure *guestv1.InstallFailure) error {
	return in.stream.Send(&guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Done{
		Done: &guestv1.InstallDone{
			Manager: in.manager.kind, Installed: in.installed,
			Duration: durationpb.New(time.Since(started)), Failure: failure,
		},
	}})
}
