package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// algorithms are the signatures that are compared, with usual key sizes.
var algorithms = []string{"HS256", "RS256", "ES256", "EdDSA"}

// A signer signs tokens and verifies them.
type signer struct {
	method       jwt.SigningMethod
	private, key any // key verifies
}

func newSigner(algorithm string) (signer, error) {
	s := signer{method: jwt.GetSigningMethod(algorithm)}
	var err error
	switch algorithm {
	case "HS256":
		secret := make([]byte, 32)
		_, err = rand.Read(secret)
		s.private, s.key = secret, secret
	case "RS256":
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		s.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, s.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("there is no algorithm %q among %v", algorithm, algorithms)
	}
	if err != nil {
		return s, err
	}
	if pair, ok := s.private.(interface{ Public() crypto.PublicKey }); ok {
		s.key = pair.Public()
	}
	return s, nil
}

// claims say what a session's record says.
type claims struct {
	Username string   `json:"name"`
	Roles    []string `json:"roles"`
	jwt.RegisteredClaims
}

// sign makes the token of a user, with an ID by which a logout can name it.
func (s signer) sign(user string) (string, error) {
	now := time.Now()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	return jwt.NewWithClaims(s.method, claims{"Ada Lovelace", []string{"staff", "buyer", "editor"}, jwt.RegisteredClaims{
		Issuer: "https://login.shop.example", Audience: jwt.ClaimStrings{"shop"}, Subject: user, ID: base64.RawURLEncoding.EncodeToString(id),
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(12 * time.Hour)),
	}}).SignedString(s.private)
}

// verify checks the signature, the algorithm, the issuer, the audience and the expiry.
func (s signer) verify(token string) (*claims, error) {
	c := new(claims)
	_, err := jwt.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return s.key, nil },
		jwt.WithValidMethods([]string{s.method.Alg()}), jwt.WithIssuer("https://login.shop.example"),
		jwt.WithAudience("shop"), jwt.WithExpirationRequired())
	return c, err
}
