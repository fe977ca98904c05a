// The monolith of docs/migration.md. NATIVE names the file native.js of that page, if
// the monolith has come to that step.
const express = require('express-4')
const Redis = require('ioredis')

const native = process.env.NATIVE && require(process.env.NATIVE)(new Redis(process.env.REDIS), process.env.NATIVE_KEY)
const app = express()
app.use(require('./store')())
if (native) app.use(native.middleware)

app.get('/login', (request, response, next) => {
  const { uid, name, roles } = request.query
  request.session.regenerate((error) => {
    if (error) return next(error)
    request.session.user = { userId: Number(uid), username: name, roles: roles.split(',') }
    request.session.save((error) => {
      if (error) return next(error)
      Promise.resolve(native?.keep(request, response)).then(() => response.redirect('/me'), next)
    })
  })
})
app.get('/logout', (request, response, next) => {
  const { sessionID, session: { user } } = request
  request.session.destroy((error) => {
    if (error) return next(error)
    Promise.resolve(user && native?.end(sessionID, user.userId)).then(() => response.redirect('/me'), next)
  })
})
app.get('/me', (request, response) => response.json({ user: request.session.user?.userId ?? null }))
app.use((request, response, next) => request.session.user ? next() : response.sendStatus(401))
app.use('/admin', (request, response, next) => request.session.user.roles.includes('admin') ? next() : response.sendStatus(403))
app.use((request, response) => response.json({ service: 'monolith', user: request.session.user.userId }))

const server = app.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`))
