// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/rpmpack"
	"github.com/stretchr/testify/require"
)

// dnfLock is an image of Debian's own dnf, which is Fedora's; the versions are not looked
// at.
const dnfLock = `suite bookworm
base ca-certificates *
dnf createrepo-c *
dnf dnf *
`

// dnfRepo is where the image looks for packages. Debian's dnf comes without any place.
const dnfRepo = "[local]\nname=local\nbaseurl=file:///tmp/repo\ngpgcheck=0\n"

// rpm is a package with one program.
func rpm(t *testing.T, path string) {
	t.Helper()
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: "greeting", Version: "1.2", Release: "3", Arch: "noarch", Summary: "greets", Licence: "Apache-2.0", BuildTime: time.Unix(0, 0),
	})
	require.NoError(t, err)
	r.AddFile(rpmpack.RPMFile{
		Name: "/usr/bin/greeting", Body: []byte("#!/bin/sh\necho hello from an rpm\n"), Mode: 0o100755, Owner: "root", Group: "root",
	})
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, r.Write(f))
	require.NoError(t, f.Close())
}

// dnfRootfs is the root file system of the image, kept in the tests' cache: it takes a
// minute to make.
func dnfRootfs(t *testing.T, in *Installation) string {
	t.Helper()
	build := filepath.Join("..", "..", "images")
	sum := sha256.New()
	for _, name := range []string{"build.sh", "finish.sh"} {
		text, err := os.ReadFile(filepath.Join(build, name))
		require.NoError(t, err)
		sum.Write(text)
	}
	sum.Write([]byte(dnfLock + dnfRepo))
	dir := filepath.Join(in.Data, "rootfs")
	kept := filepath.Join(dir, "dnf-"+hex.EncodeToString(sum.Sum(nil))[:16]+".tar")
	if _, err := os.Stat(kept); err == nil {
		return kept
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	old, err := filepath.Glob(filepath.Join(dir, "dnf-*"))
	require.NoError(t, err)
	for _, name := range old {
		require.NoError(t, os.Remove(name))
	}
	work := t.TempDir()
	lock := filepath.Join(work, "lock")
	require.NoError(t, os.WriteFile(lock, []byte(dnfLock), 0o600))
	// Beside the place where it will lie, so that it appears there whole.
	made := kept + ".made"
	cmd := exec.CommandContext(t.Context(), filepath.Join(build, "build.sh"), "dnf", made)
	cmd.Env = append(os.Environ(), "WAGGLE_IMAGE_LOCK="+lock, "WAGGLE_IMAGE_PINS=newest")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	tree := filepath.Join(work, "tree")
	repos := filepath.Join("etc", "yum.repos.d")
	require.NoError(t, os.MkdirAll(filepath.Join(tree, repos), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(tree, repos, "local.repo"), []byte(dnfRepo), 0o644))
	run(t, "tar", "--append", "--owner=0", "--group=0", "-f", made, "-C", tree, repos)
	require.NoError(t, os.Rename(made, kept))
	return kept
}

// TestDnf installs with the real dnf from a repository of one package, which the machine
// itself has made.
func TestDnf(t *testing.T) {
	in := Install(t)
	own := ofImages(t, in)
	own.Command(t, "image", "import", "--user=root", dnfRootfs(t, in), "team/dnf")
	c := own.Serve(t).Connect(t)
	var m made
	c.Call(t, "create_environment", map[string]any{"image": "team/dnf"}, &m)
	require.Equal(t, "sandbox", m.User, "root is not for commands")
	require.Equal(t, []string{"python", "shell"}, m.Languages)
	require.Equal(t, []string{"apt", "dnf"}, m.Managers)
	pkg := filepath.Join(t.TempDir(), "greeting-1.2-3.noarch.rpm")
	rpm(t, pkg)
	own.Command(t, "exec", m.ID, "--", "mkdir", "/tmp/repo")
	own.Command(t, "cp", pkg, m.ID+":/tmp/repo/")
	own.Command(t, "exec", m.ID, "--", "createrepo_c", "--quiet", "/tmp/repo")

	why := c.Refused(t, "install_packages", map[string]any{"environment_id": m.ID, "packages": "no-such-package-x", "manager": "dnf"})
	require.Contains(t, why, "no-such-package-x")
	var done struct {
		Manager   string
		Installed []string
	}
	c.Call(t, "install_packages", map[string]any{"environment_id": m.ID, "packages": "greeting", "manager": "dnf"}, &done)
	require.Equal(t, "dnf", done.Manager)
	require.Equal(t, []string{"greeting 1.2-3"}, done.Installed)
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": m.ID, "code": "id -u; greeting", "language": "shell"}, &ran)
	require.Equal(t, "1000\nhello from an rpm\n", ran.Stdout, ran.Stderr)
	own.Command(t, "rm", m.ID)
}
