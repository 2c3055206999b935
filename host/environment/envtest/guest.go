// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/environment"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// Probe answers for a machine that was told what it has.
func (p *process) Probe(
	_ context.Context, req *connect.Request[guestv1.ProcessProbeRequest],
) (*connect.Response[guestv1.ProcessProbeResponse], error) {
	if p.m.has == nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("an older guestd"))
	}
	res := &guestv1.ProcessProbeResponse{User: "sandbox", Uid: 1000, Home: environment.Home, Cwd: environment.Home, Programs: map[string]string{}}
	if p.m.req.Image != "" {
		res.User, res.Cwd = "app", ImageDir
	}
	for _, name := range req.Msg.GetPrograms() {
		if file := p.m.has[name]; file != "" {
			res.Programs[name] = file
		}
	}
	return connect.NewResponse(res), nil
}

type filesystem struct {
	guestv1connect.UnimplementedFilesystemHandler
	m *Machine
}

// Read implements the Filesystem service.
func (f *filesystem) Read(_ context.Context, req *connect.Request[guestv1.FilesystemReadRequest], s *connect.ServerStream[guestv1.FilesystemReadResponse]) error {
	entry, err := f.entry(req.Msg.GetPath())
	if err != nil {
		return err
	}
	if entry.GetType() != guestv1.FileType_FILE_TYPE_REGULAR {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("is a directory"))
	}
	data, err := os.ReadFile(f.m.path(req.Msg.GetPath()))
	if err != nil {
		return fileError(err)
	}
	data = data[min(int(req.Msg.GetOffset()), len(data)):]
	data = data[:min(int(req.Msg.GetLimit()), len(data))]
	if err := s.Send(&guestv1.FilesystemReadResponse{Message: &guestv1.FilesystemReadResponse_Entry{Entry: entry}}); err != nil {
		return err
	}
	return s.Send(&guestv1.FilesystemReadResponse{Message: &guestv1.FilesystemReadResponse_Data{Data: data}})
}

// Write implements the Filesystem service.
func (f *filesystem) Write(_ context.Context, s *connect.ClientStream[guestv1.FilesystemWriteRequest]) (*connect.Response[guestv1.FilesystemWriteResponse], error) {
	var name string
	var data []byte
	var parents bool
	for s.Receive() {
		if open := s.Msg().GetOpen(); open != nil {
			name, parents = open.GetPath(), open.GetMakeParents()
		}
		data = append(data, s.Msg().GetData()...)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if f.m.diskFull.Load() && !strings.HasPrefix(name, "/tmp/") {
		return nil, connect.NewError(connect.CodeResourceExhausted, syscall.ENOSPC)
	}
	if parents {
		if err := os.MkdirAll(filepath.Dir(f.m.path(name)), 0o755); err != nil {
			return nil, fileError(err)
		}
	}
	if err := os.WriteFile(f.m.path(name), data, 0o644); err != nil {
		return nil, fileError(err)
	}
	entry, err := f.entry(name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&guestv1.FilesystemWriteResponse{Entry: entry, BytesWritten: uint64(len(data))}), nil
}

// List implements the Filesystem service.
func (f *filesystem) List(_ context.Context, req *connect.Request[guestv1.FilesystemListRequest]) (*connect.Response[guestv1.FilesystemListResponse], error) {
	entries, err := os.ReadDir(f.m.path(req.Msg.GetPath()))
	if err != nil {
		return nil, fileError(err)
	}
	resp := &guestv1.FilesystemListResponse{}
	for _, e := range entries {
		if entry, err := f.entry(filepath.Join(req.Msg.GetPath(), e.Name())); err == nil {
			resp.Entries = append(resp.Entries, entry)
		}
	}
	return connect.NewResponse(resp), nil
}

// Stat implements the Filesystem service.
func (f *filesystem) Stat(_ context.Context, req *connect.Request[guestv1.FilesystemStatRequest]) (*connect.Response[guestv1.FilesystemStatResponse], error) {
	entry, err := f.entry(req.Msg.GetPath())
	if err != nil {
		return nil, fileError(err)
	}
	return connect.NewResponse(&guestv1.FilesystemStatResponse{Entry: entry}), nil
}

// MakeDir implements the Filesystem service.
func (f *filesystem) MakeDir(_ context.Context, req *connect.Request[guestv1.FilesystemMakeDirRequest]) (*connect.Response[guestv1.FilesystemMakeDirResponse], error) {
	if err := os.MkdirAll(f.m.path(req.Msg.GetPath()), fs.FileMode(req.Msg.GetMode())); err != nil {
		return nil, fileError(err)
	}
	return connect.NewResponse(&guestv1.FilesystemMakeDirResponse{}), nil
}

// Remove implements the Filesystem service.
func (f *filesystem) Remove(_ context.Context, req *connect.Request[guestv1.FilesystemRemoveRequest]) (*connect.Response[guestv1.FilesystemRemoveResponse], error) {
	if err := os.Remove(f.m.path(req.Msg.GetPath())); err != nil && !req.Msg.GetMissingOk() {
		return nil, fileError(err)
	}
	return connect.NewResponse(&guestv1.FilesystemRemoveResponse{Removed: 1}), nil
}

func (f *filesystem) entry(name string) (*guestv1.Entry, error) {
	i, err := os.Lstat(f.m.path(name))
	if err != nil {
		return nil, fileError(err)
	}
	e := &guestv1.Entry{Path: name, Size: uint64(i.Size()), Mode: uint32(i.Mode().Perm()), ModifiedAt: timestamppb.New(i.ModTime())}
	switch {
	case i.IsDir():
		e.Type = guestv1.FileType_FILE_TYPE_DIRECTORY
	case i.Mode().IsRegular():
		e.Type = guestv1.FileType_FILE_TYPE_REGULAR
	}
	return e, nil
}

func fileError(err error) error {
	code := connect.CodeFailedPrecondition
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = connect.CodeNotFound
	case errors.Is(err, fs.ErrPermission):
		code = connect.CodePermissionDenied
	}
	return connect.NewError(code, err)
}

// packages knows six and left-pad and no others, and pip, npm and apt; nothing is
// installed.
type packages struct {
	guestv1connect.UnimplementedPackagesHandler
}

// Install implements the Packages service.
func (packages) Install(_ context.Context, req *connect.Request[guestv1.PackagesInstallRequest], s *connect.ServerStream[guestv1.PackagesInstallResponse]) error {
	if m := req.Msg.GetManager(); m > guestv1.PackageManager_PACKAGE_MANAGER_APT {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("manager: dnf is not in the image, which has pip, npm, apt"))
	}
	done := &guestv1.InstallDone{Manager: req.Msg.GetManager(), Duration: durationpb.New(time.Second)}
	for _, p := range req.Msg.GetPackages() {
		if err := s.Send(&guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Line{Line: "Collecting " + p}}); err != nil {
			return err
		}
		if p != "six" && p != "left-pad" {
			done.Failure = &guestv1.InstallFailure{
				Kind:    guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE,
				Message: "No matching distribution found for " + p, ExitCode: 1,
			}
			continue
		}
		done.Installed = append(done.Installed, p+" 1.0.0")
	}
	return s.Send(&guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Done{Done: done}})
}
