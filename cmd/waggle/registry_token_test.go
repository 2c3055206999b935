// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/base64"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRegistryTokens pulls from and pushes to a registry that takes nothing but bearer
// tokens, which its token server gives for a name and a password.
func TestRegistryTokens(t *testing.T) {
	t.Parallel()
	registry := startRegistry(t, "token")
	img := newImage(t, runtime.GOARCH)
	upload(t, registry+"/team/app:v1", img)
	as := func(login string) *person {
		p := newPerson(t)
		if login != "" {
			auth := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry, base64.StdEncoding.EncodeToString([]byte(login)))
			p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", auth)}
		}
		return p
	}
	t.Run("pull and push", func(t *testing.T) {
		t.Parallel()
		p := as("user:secret")
		require.Equal(t, digestOf(t, img), p.pull(registry+"/team/app:v1"))
		pushed := p.bake(t, registry)
		require.NoError(t, pushed.err, pushed.errs)
		report, errs, err := as("reader:secret").waggle("image", "check", registry+"/team/app:baked")
		require.NoError(t, err, "%s%s", report, errs)
	})
	for name, login := range map[string]string{"wrong password": "user:other", "unknown name": "nobody:secret", "no login": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := as(login).refused(registry + "/team/app:v1")
			require.Contains(t, said, "registry refused access")
			require.Contains(t, said, "skopeo login "+registry)
		})
	}
	t.Run("may not push", func(t *testing.T) {
		t.Parallel()
		pushed := as("reader:secret").bake(t, registry)
		require.Error(t, pushed.err)
		require.Contains(t, pushed.errs, "registry refused access")
		require.Contains(t, pushed.errs, "skopeo login "+registry)
	})
	t.Run("wrong password at push", func(t *testing.T) {
		t.Parallel()
		p := as("")
		reader := as("user:secret")
		reader.pull(registry + "/team/app:v1")
		p.home, p.env = reader.home, as("user:other").env
		pushed := p.bake(t, registry)
		require.Error(t, pushed.err)
		require.Contains(t, pushed.errs, "registry refused access")
		require.Contains(t, pushed.errs, "skopeo login "+registry)
	})
}

type outcomeOfBake struct {
	errs string
	err  error
}

// bake pushes team/app:v1 with a guestd to the registry.
func (p *person) bake(t *testing.T, registry string) outcomeOfBake {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), "./testdata/guest")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.env = append(p.env, "WAGGLE_GUESTD_DIR="+dir)
	_, errs, err := p.waggle("image", "bake", registry+"/team/app:v1", "docker://"+registry+"/team/app:baked")
	return outcomeOfBake{errs: strings.TrimSpace(errs), err: err}
}
