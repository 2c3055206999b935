// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestCheckNamesTheField(t *testing.T) {
	t.Parallel()
	network := func(change func(*guestv1.NetworkConfig)) *guestv1.SystemConfigureRequest {
		n := &guestv1.NetworkConfig{Address: "192.168.127.2/24", Gateway: "192.168.127.1", Nameservers: []string{"192.168.127.1"}}
		change(n)
		return &guestv1.SystemConfigureRequest{Network: n}
	}
	for _, tc := range []struct {
		field string // "" for a good request
		msg   *guestv1.SystemConfigureRequest
	}{
		{"", &guestv1.SystemConfigureRequest{}},
		{"", network(func(*guestv1.NetworkConfig) {})},
		{"hostname", &guestv1.SystemConfigureRequest{Hostname: proto.String("a.b")}},
		{"hostname", &guestv1.SystemConfigureRequest{Hostname: proto.String("a\n127.0.0.1 evil")}},
		{"clock", &guestv1.SystemConfigureRequest{Clock: &timestamppb.Timestamp{Nanos: -1}}},
		{"network.address", network(func(n *guestv1.NetworkConfig) { n.Address = "192.168.127.2" })},
		{"network.gateway", network(func(n *guestv1.NetworkConfig) { n.Gateway = "10.0.0.1" })},
		{"network.mtu", network(func(n *guestv1.NetworkConfig) { n.Mtu = 10 })},
		{"network.nameservers", network(func(n *guestv1.NetworkConfig) { n.Nameservers = []string{"x"} })},
		{"network.nameservers", network(func(n *guestv1.NetworkConfig) { n.Nameservers = []string{"fe80::1%a\nsearch evil"} })},
		{"network.nameservers", network(func(n *guestv1.NetworkConfig) { n.Nameservers = make([]string, 4) })},
		{"network.search_domains", network(func(n *guestv1.NetworkConfig) { n.SearchDomains = []string{"a b"} })},
		{"ca_bundle_pem", &guestv1.SystemConfigureRequest{CaBundlePem: []byte("no PEM")}},
		{"user.name", &guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{Name: "a:b"}}},
		{"user.home", &guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{Home: "rel"}}},
		{"user.uid", &guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{Uid: 1 << 31}}},
		{"env", &guestv1.SystemConfigureRequest{Env: &guestv1.EnvDefaults{Variables: map[string]string{"A=B": ""}}}},
		{"cwd", &guestv1.SystemConfigureRequest{Cwd: proto.String("rel")}},
		{"cwd", &guestv1.SystemConfigureRequest{Cwd: proto.String("/a\x00b")}},
	} {
		_, err := New(Config{}).check(tc.msg)
		if tc.field == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.field)
	}
}

func TestAddAccount(t *testing.T) {
	t.Parallel()
	const passwd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh"
	const group = "root:x:0:\nnode:x:1000:\nstaff:x:1001:\n"
	for _, tc := range []struct {
		name    string
		user    workload
		changed bool
		uid     int
		home    string
		bad     bool
	}{
		{"exists", workload{name: "node", home: "/other"}, false, 1000, "/home/node", false},
		{"ids in use give way", workload{name: "sandbox", home: "/home/sandbox"}, true, 1002, "/home/sandbox", false},
		{"asked for", workload{name: "sandbox", home: "/s", uid: 1500}, true, 1500, "/s", false},
		{"asked for and in use", workload{name: "sandbox", home: "/s", uid: 1000}, false, 0, "", true},
	} {
		acc, err := addAccount([]byte(passwd), []byte(group), tc.user, "/bin/sh")
		if tc.bad {
			require.Error(t, err, tc.name)
			continue
		}
		require.NoError(t, err, tc.name)
		require.Equal(t, tc.changed, acc.changed, tc.name)
		require.Equal(t, tc.uid, acc.uid, tc.name)
		require.Equal(t, tc.home, acc.home, tc.name)
		again, err := addAccount(acc.passwd, acc.group, tc.user, "/bin/sh")
		require.NoError(t, err, tc.name)
		require.False(t, again.changed, "%s: the second time", tc.name)
		require.Equal(t, acc.uid, again.uid, tc.name)
		require.Equal(t, acc.gid, again.gid, tc.name)
	}
	acc, err := addAccount(nil, nil, workload{name: "sandbox", home: "/home/sandbox"}, "/bin/sh")
	require.NoError(t, err)
	require.Equal(t, "sandbox:x:1000:1000::/home/sandbox:/bin/sh\n", string(acc.passwd))
	require.Equal(t, "sandbox:x:1000:\n", string(acc.group))
}

func TestMissing(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	var ders [][]byte
	for i := range int64(2) {
		template := &x509.Certificate{SerialNumber: big.NewInt(i + 1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		ders = append(ders, der)
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ders[0]})
	parsed, err := parseBundle(append([]byte("# comment\n"), bundle...))
	require.NoError(t, err)
	require.Equal(t, ders[:1], parsed)
	fresh, err := missing(bundle, [][]byte{ders[0], ders[1], ders[1]})
	require.NoError(t, err)
	require.Equal(t, ders[1:], fresh)
	_, err = missing(nil, [][]byte{[]byte("junk")})
	require.Error(t, err)
}
