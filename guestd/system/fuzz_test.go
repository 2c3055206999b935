// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

var (
	resolvPattern = regexp.MustCompile(`^(nameserver [0-9a-fA-F:.]+|search [A-Za-z0-9_. -]+)$`)
	passwdPattern = regexp.MustCompile(`^[a-z0-9_-]+:x:[0-9]+:[0-9]+::/[^:]*:/bin/sh$`)
)

// FuzzConfigure takes any message. What is accepted is written into files that
// programs of the guest read by lines: none may hold more than it says.
func FuzzConfigure(f *testing.F) {
	for _, msg := range []*guestv1.SystemConfigureRequest{
		{Hostname: proto.String("a-b"), Cwd: proto.String("/work"), Env: &guestv1.EnvDefaults{Variables: map[string]string{"A": "b"}}},
		{User: &guestv1.WorkloadUser{Name: "user", Home: "/home/user", Uid: 1234}},
		{Network: &guestv1.NetworkConfig{
			Address: "10.0.0.2/24", Gateway: "10.0.0.1", Nameservers: []string{"10.0.0.1", "fe80::1%a\nb"}, SearchDomains: []string{"a.b"}, Mtu: 1400,
		}},
		{Results: &guestv1.ResultLimits{Age: durationpb.New(time.Hour), Count: 10, OutputBytes: 1 << 20}, CaBundlePem: []byte("-----BEGIN")},
		{Cwd: proto.String("/a\x00b")},
	} {
		data, err := proto.Marshal(msg)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg := &guestv1.SystemConfigureRequest{}
		if proto.Unmarshal(data, msg) != nil {
			return
		}
		if _, err := New(Config{}).check(msg); err != nil {
			return
		}
		require.NotContains(t, msg.GetHostname(), "\n")
		require.NotContains(t, msg.GetCwd(), "\x00")
		require.LessOrEqual(t, len(msg.GetEnv().GetVariables()), maxVariables)
		require.True(t, msg.GetCwd() == "" || path.IsAbs(msg.GetCwd()))
		if msg.GetNetwork() != nil {
			network, resolv, err := checkNetwork(msg.GetNetwork())
			require.NoError(t, err)
			require.True(t, network.Address.Addr().Is4())
			require.True(t, network.Address.Contains(network.Gateway))
			for line := range strings.Lines(resolv) {
				require.Regexp(t, resolvPattern, strings.TrimSuffix(line, "\n"))
			}
		}
		if msg.GetUser() != nil {
			user, err := checkUser(msg.GetUser())
			require.NoError(t, err)
			acc, err := addAccount(nil, nil, user, "/bin/sh")
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(acc.passwd), "\n"))
			require.Regexp(t, passwdPattern, strings.TrimSuffix(string(acc.passwd), "\n"))
			require.Positive(t, acc.uid)
		}
	})
}
