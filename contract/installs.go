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

// installs is how Packages says no. What it installs is tested where there are
// packages.
func installs() []Scenario {
	return []Scenario{
		{"installs refused", None, installsRefused},
		// The managers of a machine have tests of their own; pip begins slowly there.
		{"an install that fails", Plain | Root | Python, installFails},
	}
}

func (g *Guest) install(ctx context.Context, req *guestv1.PackagesInstallRequest) (lines []string, done *guestv1.InstallDone, err error) {
	stream, err := g.Packages.Install(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if line := stream.Msg().GetLine(); line != "" {
			lines = append(lines, line)
		}
		done = stream.Msg().GetDone() // of the last message
	}
	return lines, done, stream.Err()
}

func installsRefused(ctx context.Context, t *testing.T, g *Guest) {
	for _, packages := range [][]string{nil, {""}, {"--index-url=http://x"}, {"a b"}, {"a\nb"}, make([]string, 101)} {
		_, _, err := g.install(ctx, &guestv1.PackagesInstallRequest{Packages: packages})
		refused(t, err, connect.CodeInvalidArgument, "packages")
	}
	for program, manager := range map[string]guestv1.PackageManager{
		"dnf": guestv1.PackageManager_PACKAGE_MANAGER_DNF, "apk": guestv1.PackageManager_PACKAGE_MANAGER_APK,
	} {
		if g.run(ctx, t, shell("command -v "+program)).exited.GetExitCode() == 0 {
			continue // no machine has both
		}
		_, _, err := g.install(ctx, &guestv1.PackagesInstallRequest{Manager: manager, Packages: []string{"x"}})
		refused(t, err, connect.CodeFailedPrecondition, program)
	}
}

// installFails lets pip fail before it reaches the network, which takes the whole
// way through an exec.
func installFails(ctx context.Context, t *testing.T, g *Guest) {
	lines, done, err := g.install(ctx, &guestv1.PackagesInstallRequest{
		Manager: guestv1.PackageManager_PACKAGE_MANAGER_PIP, Packages: []string{"./no-such-directory-of-waggle/"},
	})
	require.NoError(t, err, "a manager that fails is no error of the call")
	require.NotNil(t, done, "it is the last message")
	require.NotZero(t, done.GetFailure().GetExitCode())
	require.NotEmpty(t, done.GetFailure().GetMessage())
	require.NotEmpty(t, strings.Join(lines, ""), "what the manager says is passed on")
}
