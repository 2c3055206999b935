// SPDX-License-Identifier: Apache-2.0

// Package waggle holds the modules that the first packages will import; it goes
// when they do.
package waggle

import (
	_ "connectrpc.com/connect"
	_ "github.com/Microsoft/hcsshim/ext4/tar2ext4"
	_ "github.com/alecthomas/kong"
	_ "github.com/cavaliergopher/cpio"
	_ "github.com/containers/gvisor-tap-vsock/pkg/virtualnetwork"
	_ "github.com/creack/pty"
	_ "github.com/dustin/go-humanize"
	_ "github.com/gofrs/flock"
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/mark3labs/mcp-go/server"
	_ "github.com/mdlayher/socket"
	_ "github.com/mdlayher/vsock"
	_ "github.com/opencontainers/go-digest"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/pierrec/lz4/v4"
	_ "github.com/stacklok/go-microvm/net/hosted"
	_ "github.com/stacklok/go-microvm/preflight"
	_ "github.com/stretchr/testify/require"
	_ "github.com/vishvananda/netlink"
	_ "go.podman.io/image/v5/copy"
	_ "go.podman.io/image/v5/directory"
	_ "go.podman.io/image/v5/docker"
	_ "go.podman.io/image/v5/docker/archive"
	_ "go.podman.io/image/v5/oci/archive"
	_ "go.podman.io/image/v5/oci/layout"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "google.golang.org/protobuf/proto"
)
