// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// watches is changes that are reported.
func watches() []Scenario {
	return []Scenario{
		{"changes of a tree", None, watchTree},
		{"changes of one directory", None, watchFlat},
		{"changes that nobody reads", None, watchOverflow},
		{"watches refused", None, watchesRefused},
	}
}

// watcher is one Watch.
type watcher struct {
	stream *connect.ServerStreamForClient[guestv1.FilesystemWatchResponse]
}

// watch returns when the watch is in place. It ends with the test.
func (g *Guest) watch(ctx context.Context, t *testing.T, req *guestv1.FilesystemWatchRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	stream, err := g.Files.Watch(ctx, connect.NewRequest(req))
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		_ = stream.Close()
	})
	w := &watcher{stream: stream}
	require.True(t, stream.Receive(), "%v", stream.Err())
	require.Equal(t, guestv1.ChangeKind_CHANGE_KIND_WATCHING, stream.Msg().GetKind())
	return w
}

// want waits for a change, and passes over others of files in its way.
func (w *watcher) want(t *testing.T, kind guestv1.ChangeKind, path, from string) {
	t.Helper()
	for w.stream.Receive() {
		m := w.stream.Msg()
		require.NotEqual(t, guestv1.ChangeKind_CHANGE_KIND_OVERFLOW, m.GetKind())
		if m.GetKind() == kind && m.GetPath() == path && m.GetFromPath() == from {
			return
		}
	}
	require.FailNow(t, "the stream ended", "no %s of %s: %v", kind, path, w.stream.Err())
}

func watchTree(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	do := func(script string) {
		f := g.run(ctx, t, argv("sh", "-c", `cd "$1" && `+script, "sh", dir))
		require.Zero(t, f.exited.GetExitCode(), f.stderr.String())
	}
	do("mkdir sub")
	w := g.watch(ctx, t, &guestv1.FilesystemWatchRequest{Path: dir, Recursive: true})
	do("echo a >sub/a")
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_CREATED, dir+"/sub/a", "")
	do("echo b >>sub/a")
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_MODIFIED, dir+"/sub/a", "")
	do("mv sub/a b")
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_MOVED, dir+"/b", dir+"/sub/a")
	do("rm b")
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_REMOVED, dir+"/b", "")
	do("mkdir -p n/e/w && echo x >n/e/w/deep")
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_CREATED, dir+"/n/e/w/deep", "")
	// A file that guestd writes is there at once; what it was before is not told.
	_, err := g.write(ctx, &guestv1.WriteOpen{Path: dir + "/written"}, []byte("x"))
	require.NoError(t, err)
	for !strings.HasPrefix(w.stream.Msg().GetPath(), dir+"/written") {
		require.True(t, w.stream.Receive(), "%v", w.stream.Err())
		require.NotContains(t, w.stream.Msg().GetPath(), "/.", "a temporary name")
	}
	require.Equal(t, guestv1.ChangeKind_CHANGE_KIND_CREATED, w.stream.Msg().GetKind())
	require.Empty(t, w.stream.Msg().GetFromPath())
}

// watchFlat is told nothing of what lies below.
func watchFlat(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, argv("mkdir", dir+"/sub"))
	require.Zero(t, made.exited.GetExitCode())
	w := g.watch(ctx, t, &guestv1.FilesystemWatchRequest{Path: dir})
	made = g.run(ctx, t, argv("touch", dir+"/sub/below", dir+"/here"))
	require.Zero(t, made.exited.GetExitCode())
	require.True(t, w.stream.Receive(), "%v", w.stream.Err())
	require.Equal(t, dir+"/here", w.stream.Msg().GetPath())
}

// watchOverflow fills the stream, which holds 4 MiB here, and the queue of the kernel,
// which holds 16384 changes, while nobody reads. The watch says so and goes on, also in a
// directory of which it was not told.
func watchOverflow(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	w := g.watch(ctx, t, &guestv1.FilesystemWatchRequest{Path: dir, Recursive: true})
	const twice = `cd "$1" && i=0 && while [ $i -lt 25000 ]; do : >"$2.a"; : >"$2.b"; i=$((i+1)); done && mkdir late`
	f := g.run(ctx, t, argv("sh", "-c", twice, "sh", dir, strings.Repeat("x", 240)))
	require.Zero(t, f.exited.GetExitCode(), f.stderr.String())
	for w.stream.Receive() && w.stream.Msg().GetKind() != guestv1.ChangeKind_CHANGE_KIND_OVERFLOW {
		require.NotEqual(t, dir+"/late", w.stream.Msg().GetPath(), "the queue held everything")
	}
	require.NoError(t, w.stream.Err())
	require.Equal(t, dir, w.stream.Msg().GetPath())
	made := g.run(ctx, t, argv("touch", dir+"/late/file"))
	require.Zero(t, made.exited.GetExitCode())
	w.want(t, guestv1.ChangeKind_CHANGE_KIND_CREATED, dir+"/late/file", "")
}

func watchesRefused(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, argv("touch", dir+"/plain"))
	require.Zero(t, made.exited.GetExitCode())
	for path, code := range map[string]connect.Code{
		"relative": connect.CodeInvalidArgument, dir + "/none": connect.CodeNotFound, dir + "/plain": connect.CodeFailedPrecondition,
	} {
		stream, err := g.Files.Watch(ctx, connect.NewRequest(&guestv1.FilesystemWatchRequest{Path: path}))
		require.NoError(t, err)
		require.False(t, stream.Receive())
		refused(t, stream.Err(), code, path)
		_ = stream.Close()
	}
}
