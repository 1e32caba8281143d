package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/config"
)

// loadCredentials reads the files that the configuration names: what the
// listeners show, nil without TLS, and what peers' certificates are checked
// against.
func loadCredentials(cfg *config.Config) (server *tls.Config, peer credentials.TransportCredentials, err error) {
	if !cfg.TLS() {
		return nil, insecure.NewCredentials(), nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, nil, kverr.New(kverr.Invalid, "--tls-cert, --tls-key: %w", err)
	}
	var roots *x509.CertPool
	if cfg.TLSCA != "" {
		pem, err := os.ReadFile(cfg.TLSCA)
		if err != nil {
			return nil, nil, kverr.New(kverr.Invalid, "--tls-ca: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, kverr.New(kverr.Invalid, "--tls-ca: %s holds no certificate", cfg.TLSCA)
		}
	}
	server = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	peer = credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
	return server, peer, nil
}

// serverCredentials is what the gRPC listener shows.
func serverCredentials(server *tls.Config) credentials.TransportCredentials {
	if server == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(server.Clone())
}

func errStart(what string, err error) error { return fmt.Errorf("start: %s: %w", what, err) }
