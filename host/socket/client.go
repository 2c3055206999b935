// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"net"
	"net/http"
)

// Transport reaches the server of one socket, whatever the URL's host says. Its
// CloseIdleConnections lets go of the connection.
func Transport(path string) *http.Transport {
	return &http.Transport{
		Protocols: unencryptedHTTP2(),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}
}
