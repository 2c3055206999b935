// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// forgetSettings takes the caller's settings out of this process: what somebody has
// exported for his own waggle must not change what is tested. Those of the tests
// themselves stay.
func forgetSettings() {
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "WAGGLE_") && !strings.HasPrefix(name, "WAGGLE_TEST_") {
			_ = os.Unsetenv(name) // it fails for a bad name, which this is not
		}
	}
}

// TestHermetic runs tests that look at settings again, in the environment of somebody
// who has set all that there are, to nothing that works.
func TestHermetic(t *testing.T) {
	t.Parallel()
	var c cli
	parser, err := kong.New(&c, kong.Name("waggle"))
	require.NoError(t, err)
	env := append(os.Environ(), "WAGGLE_RUNTIMES=garbage", "WAGGLE_IMAGE_HIVE=UPPER CASE")
	settings := 0
	for _, command := range parser.Model.Leaves(false) {
		for _, flag := range command.Flags {
			for _, name := range flag.Envs {
				env = append(env, name+"=garbage")
				settings++
			}
		}
	}
	require.Greater(t, settings, 30)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run",
		"^(TestServe|TestServeRefuses|TestDoctor|TestDoctorBackends|TestUnusableKrun|TestFetchKrun|TestReadingMakesNothing|TestHelp|TestRuntimes.*)$")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, name := range []string{"TestServe", "TestServeRefuses", "TestDoctorBackends"} {
		require.Contains(t, string(out), "--- PASS: "+name+" ")
	}
}
