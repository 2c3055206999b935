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

// owners is who files and commands belong to.
func owners() []Scenario {
	return []Scenario{
		{"a write keeps the owner", Machine, writeKeepsOwner},
		{"no accounts any more", Machine | Alone, noAccounts},
		{"a user without a home", Machine, noHome},
	}
}

// asRoot runs a shell line as root, which must succeed.
func (g *Guest) asRoot(ctx context.Context, t *testing.T, line string) {
	t.Helper()
	start := shell(line)
	start.AsRoot = true
	r := g.run(ctx, t, start)
	require.Nil(t, r.exited.GetSpawnFailure())
	require.Zero(t, r.exited.GetExitCode(), "%s%s", r.stdout.Bytes(), r.stderr.Bytes())
}

// words runs a shell line, which must succeed, and returns the words that it says.
func (g *Guest) words(ctx context.Context, t *testing.T, line string) string {
	t.Helper()
	r := g.run(ctx, t, shell(line))
	require.Nil(t, r.exited.GetSpawnFailure())
	require.Zero(t, r.exited.GetExitCode(), "%s%s", r.stdout.Bytes(), r.stderr.Bytes())
	return strings.Join(strings.Fields(r.stdout.String()), " ")
}

// writeKeepsOwner writes to files of root in a directory of the workload's. What
// open(2) would refuse, and chmod(2), is refused.
func writeKeepsOwner(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	g.asRoot(ctx, t, "cd "+dir+" && echo old >open && echo old >shut && chown 0:7 open shut && chmod 4666 open && chmod 644 shut")

	res, err := g.write(ctx, &guestv1.WriteOpen{Path: dir + "/open"}, []byte("new"))
	require.NoError(t, err)
	require.Zero(t, res.GetEntry().GetUid())
	require.EqualValues(t, 7, res.GetEntry().GetGid())
	require.EqualValues(t, 0o666, res.GetEntry().GetMode(), "not setuid: the content is another")
	_, data, err := g.read(ctx, &guestv1.FilesystemReadRequest{Path: dir + "/open"})
	require.NoError(t, err)
	require.Equal(t, "new", string(data))

	_, err = g.write(ctx, &guestv1.WriteOpen{Path: dir + "/open", Mode: new(uint32(0o600))}, []byte("newer"))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: dir + "/shut"}, []byte("new"))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
	require.Equal(t, "open shut", g.words(ctx, t, "ls -A "+dir), "no temporary file is left")

	// In a directory like /tmp nobody may replace what is somebody else's.
	g.asRoot(ctx, t, "chown 0 "+dir+" && chmod 1777 "+dir)
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: dir + "/open"}, []byte("newest"))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
	require.Equal(t, "open shut", g.words(ctx, t, "ls -A "+dir))
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: dir + "/open", AsRoot: true, Mode: new(uint32(0o600))}, []byte("root's"))
	require.NoError(t, err)
}

// noAccounts: a command that breaks passwd(5) must not end all that would mend it.
func noAccounts(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	before := g.words(ctx, t, "id -u")
	g.asRoot(ctx, t, "mv /etc/passwd /etc/passwd.away && mkfifo /etc/passwd")
	defer g.asRoot(ctx, t, "mv /etc/passwd.away /etc/passwd")
	require.Equal(t, before, g.words(ctx, t, "id -u"))
	res, err := g.write(ctx, &guestv1.WriteOpen{Path: dir + "/file"}, []byte("x"))
	require.NoError(t, err)
	require.NotZero(t, res.GetEntry().GetUid())

	start := argv("true")
	start.User = "daemon"
	require.Equal(t, guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_USER,
		g.run(ctx, t, start).exited.GetSpawnFailure().GetKind())
}

// noHome: most images have users of the system whose home nobody has made.
func noHome(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("pwd; echo $HOME")
	start.User, start.Cwd = "nobody", ""
	r := g.run(ctx, t, start)
	require.Nil(t, r.exited.GetSpawnFailure())
	require.Equal(t, "/\n/nonexistent\n", r.stdout.String())
}
