// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"archive/tar"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// instruction is one of a Containerfile, as testdata/containerfile prints it.
type instruction struct {
	Name  string
	Flags []string
	Args  []string
}

// recipe is what a Containerfile makes, as far as it can be known without building it.
type recipe struct {
	args     map[string]string // values of ARG
	run      string
	flags    []string // of waggle image import
	files    map[string]string
	packages map[string]string // version by name
}

// pinnedPackage is what follows apt-get install: names with the argument of the version.
var pinnedPackage = regexp.MustCompile(`([a-z0-9.+-]+)="\$([A-Z0-9_]+)"`)

// readRecipe evaluates a Containerfile with arguments of the build.
func readRecipe(t *testing.T, parser, file string, build map[string]string) *recipe {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), parser, file).Output()
	require.NoError(t, err, file)
	var all []instruction
	require.NoError(t, json.Unmarshal(out, &all))
	r := &recipe{args: map[string]string{}, files: map[string]string{}, packages: map[string]string{}}
	value := func(word string) string {
		return os.Expand(strings.Trim(word, `"`), func(name string) string {
			require.Contains(t, r.args, name, "%s: no such ARG", file)
			return r.args[name]
		})
	}
	for _, i := range all {
		switch i.Name {
		case "ARG":
			name, def, _ := strings.Cut(i.Args[0], "=")
			if given, ok := build[name]; ok {
				def = given
			}
			r.args[name] = def
		case "FROM":
			require.Equal(t, []string{"${BASE}"}, i.Args, "the base is an argument")
		case "RUN":
			r.run += strings.Join(i.Args, " ") + "\n"
		case "COPY":
			require.Equal(t, []string{"--chown=0:0"}, i.Flags)
			r.files[i.Args[1]] = i.Args[0]
		case "ENV":
			r.flags = append(r.flags, "--env="+i.Args[0]+"="+value(i.Args[1]))
		case "LABEL":
			for pair := range slices.Chunk(i.Args, 3) { // the third is the sign between them
				r.flags = append(r.flags, "--label="+pair[0]+"="+value(pair[1]))
			}
		case "USER":
			r.flags = append(r.flags, "--user="+value(i.Args[0]))
		case "WORKDIR":
			r.flags = append(r.flags, "--workdir="+value(i.Args[0]))
		default:
			t.Fatalf("%s: this test does not know %s", file, i.Name)
		}
	}
	_, install, found := strings.Cut(r.run, "apt-get \"$@\" install")
	require.True(t, found, file)
	for _, m := range pinnedPackage.FindAllStringSubmatch(install, -1) {
		r.packages[m[1]] = r.args[m[2]]
	}
	return r
}

// readLock reads images/packages.lock: the versions by image and package, and what
// stands for itself under "".
func readLock(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../images/packages.lock")
	require.NoError(t, err)
	lock := map[string]map[string]string{"": {}}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case len(f) == 2:
			lock[""][f[0]] = f[1]
		default:
			require.Len(t, f, 3, line)
			if lock[f[0]] == nil {
				lock[f[0]] = map[string]string{}
			}
			lock[f[0]][f[1]] = f[2]
		}
	}
	return lock
}

// guestdContext is a directory for builds with guestd in it, and the arguments for them.
func guestdContext(t *testing.T, p *person) (dir string, args map[string]string, lines string) {
	t.Helper()
	dir = t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.env = append(p.env, "WAGGLE_GUESTD_DIR="+dir)
	p.dir = dir
	printed, errs, err := p.waggle("image", "guestd", "--build-args", "waggle")
	require.NoError(t, err, errs)
	args = map[string]string{}
	for _, option := range strings.Fields(printed) {
		name, v, ok := strings.Cut(strings.TrimPrefix(option, "--build-arg="), "=")
		require.True(t, ok, option)
		args[name] = v
	}
	require.Len(t, args, 3)
	lines, errs, err = p.waggle("image", "guestd", "waggle")
	require.NoError(t, err, errs)
	return dir, args, lines
}

// TestContainerfiles: each reference image has one; it names the packages and versions of
// packages.lock, from which the build without an engine is made, and what it makes besides
// them is a baked image, as that build's are.
func TestContainerfiles(t *testing.T) {
	t.Parallel()
	parser := filepath.Join(t.TempDir(), "containerfile")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", parser, ".")
	build.Dir = filepath.Join("testdata", "containerfile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	script, err := os.ReadFile("../../scripts/images.sh")
	require.NoError(t, err)
	finish, err := os.ReadFile("../../images/finish.sh")
	require.NoError(t, err)
	useradd := regexp.MustCompile(`useradd [^;\n]+`).FindString(string(finish))
	require.NotEmpty(t, useradd)
	lock := readLock(t)
	for name := range lock {
		if name == "" {
			continue
		}
		p := newPerson(t)
		dir, args, lines := guestdContext(t, p)
		r := readRecipe(t, parser, filepath.Join("../../images", name, "Containerfile"), args)

		require.Regexp(t, `^docker\.io/library/debian:`+lock[""]["suite"]+`-\d{8}-slim$`, r.args["BASE"], name)
		require.Equal(t, lock[""]["snapshot"], r.args["SNAPSHOT"], name)
		want := map[string]string{}
		for _, of := range []string{"base", name} {
			for pkg, version := range lock[of] {
				want[pkg] = version
			}
		}
		require.Equal(t, want, r.packages, name)
		require.Contains(t, r.run, useradd, name)
		require.Equal(t, map[string]string{"/usr/lib/waggle/": "waggle/"}, r.files, name)
		require.Contains(t, lines, "COPY --chown=0:0 waggle/ /usr/lib/waggle/\n", "the line of the documentation is that of %s", name)

		// The same user, directory and variables as the build without an engine has.
		for _, flag := range []string{"user", "workdir", "env"} {
			m := regexp.MustCompile(`--` + flag + ` (\S+)`).FindSubmatch(script)
			require.NotNil(t, m, flag)
			require.Contains(t, r.flags, "--"+flag+"="+string(m[1]), name)
		}
		require.Contains(t, string(script), `"org.opencontainers.image.title=waggle/$runtime"`)
		require.Contains(t, r.flags, "--label=org.opencontainers.image.title=waggle/"+name)

		root := filepath.Join(dir, "root.tar")
		tarContext(t, root, dir, r.files)
		_, errs, err := p.waggle(append(append([]string{"image", "import"}, r.flags...), root, "mine/"+name)...)
		require.NoError(t, err, errs)
		report, errs, err := p.waggle("image", "check", "mine/"+name)
		require.NoError(t, err, "%s: %s%s", name, report, errs)
	}
}

// tarContext writes what COPY takes from the context dir.
func tarContext(t *testing.T, file, dir string, copies map[string]string) {
	t.Helper()
	out, err := os.Create(file)
	require.NoError(t, err)
	w := tar.NewWriter(out)
	for dst, src := range copies {
		entries, err := os.ReadDir(filepath.Join(dir, src))
		require.NoError(t, err)
		for _, e := range entries {
			st, err := e.Info()
			require.NoError(t, err)
			body, err := os.ReadFile(filepath.Join(dir, src, e.Name()))
			require.NoError(t, err)
			require.NoError(t, w.WriteHeader(&tar.Header{
				Name: path.Join(dst[1:], e.Name()), Mode: int64(st.Mode().Perm()), Size: int64(len(body)),
			}))
			_, err = w.Write(body)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, out.Close())
}
