// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// repository is a manager's other side: a world in which lists have an age.
type repository struct {
	guestv1connect.UnimplementedProcessHandler
	have, want int // versions of the lists: in the image, and today's
	offline    bool
	ran        []string
}

func (r *repository) Run(
	_ context.Context, stream *connect.BidiStream[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse],
) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	words := first.GetStart().GetArgv().GetArgs()
	r.ran = append(r.ran, words[0])
	text, code := r.answer(words)
	if err := stream.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stdout{
		Stdout: &guestv1.Output{Data: []byte(text + "\n")},
	}}); err != nil {
		return err
	}
	return stream.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Exited{
		Exited: &guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: code}},
	}})
}

func (r *repository) answer(words []string) (string, int32) {
	switch {
	case words[0] == "update" && r.offline:
		// As apt-get does: a warning, and a success.
		return "W: Failed to fetch http://deb/: Temporary failure resolving 'deb'", 0
	case words[0] == "update":
		r.have = r.want
		return "Fetched", 0
	case words[len(words)-1] == "nope" || r.have == 0:
		return "E: Unable to locate package " + words[len(words)-1], 100
	case r.have < r.want:
		return "E: Failed to fetch http://deb/tree_1.deb  404  Not Found [IP: 1.2.3.4 80]", 100
	}
	return "Setting up tree (2.1.0-1) ...", 0
}

// installer serves Packages with a manager that r plays.
func (r *repository) installer(t *testing.T) func(name string) *guestv1.InstallDone {
	t.Helper()
	processes := serve(t, func(mux *http.ServeMux) { mux.Handle(guestv1connect.NewProcessHandler(r)) })
	svc := New(guestv1connect.NewProcessClient(processes, "http://guestd", connect.WithGRPC()))
	apt := managers[2]
	require.Equal(t, guestv1.PackageManager_PACKAGE_MANAGER_APT, apt.kind)
	svc.managers = []manager{{
		kind: apt.kind, old: apt.old,
		commands: []command{{phase: "updating", argv: []string{"update"}}, {phase: "installing", argv: []string{"install"}}},
		stale:    func() bool { return r.have == 0 },
	}}
	client := guestv1connect.NewPackagesClient(
		serve(t, func(mux *http.ServeMux) { mux.Handle(guestv1connect.NewPackagesHandler(svc)) }), "http://guestd")
	return func(name string) *guestv1.InstallDone {
		stream, err := client.Install(t.Context(), connect.NewRequest(&guestv1.PackagesInstallRequest{Packages: []string{name}}))
		require.NoError(t, err)
		defer stream.Close()
		var done *guestv1.InstallDone
		for stream.Receive() {
			if d := stream.Msg().GetDone(); d != nil {
				done = d
			}
		}
		require.NoError(t, stream.Err())
		require.NotNil(t, done)
		return done
	}
}

// serve returns a client whose every call goes to the handlers.
func serve(t *testing.T, handle func(*http.ServeMux)) *http.Client {
	t.Helper()
	mux := http.NewServeMux()
	handle(mux)
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{Protocols: server.Config.Protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: toServer{transport, server.Listener.Addr().String()}}
}

type toServer struct {
	http.RoundTripper
	addr string
}

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = s.addr
	return s.RoundTripper.RoundTrip(r)
}

func TestInstallFetchesLists(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		repo repository
		ran  string
		kind guestv1.InstallFailureKind
	}{
		"none":          {repository{have: 0, want: 2}, "update install", 0},
		"of today":      {repository{have: 2, want: 2}, "install", 0},
		"old":           {repository{have: 1, want: 2}, "install update install", 0},
		"none, offline": {repository{want: 2, offline: true}, "update install", guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK},
		"old, offline":  {repository{have: 1, want: 2, offline: true}, "install update install", guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := tc.repo.installer(t)("tree")
			require.Equal(t, tc.ran, strings.Join(tc.repo.ran, " "))
			require.Equal(t, tc.kind, done.GetFailure().GetKind(), done.GetFailure().GetMessage())
			if tc.kind == 0 {
				require.Nil(t, done.GetFailure())
				require.Equal(t, []string{"tree 2.1.0-1"}, done.GetInstalled())
			}
		})
	}
	t.Run("back online", func(t *testing.T) {
		t.Parallel()
		repo := &repository{have: 1, want: 2, offline: true}
		install := repo.installer(t)
		require.NotNil(t, install("tree").GetFailure())
		repo.offline = false
		require.Nil(t, install("tree").GetFailure(), "what could not be fetched is not fresh")
	})
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		repo := &repository{have: 2, want: 2}
		install := repo.installer(t)
		for range 2 {
			require.Equal(t, []string{"nope"}, install("nope").GetFailure().GetPackages())
		}
		require.Equal(t, "install update install install", strings.Join(repo.ran, " "))
	})
}
