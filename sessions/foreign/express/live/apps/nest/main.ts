// An application as the author of the article behind Coatcheck has it: NestJS 9 with
// express-session and connect-redis 6 over ioredis, its user at session.user. It knows
// no Coatcheck, and guards its pages itself.
import 'reflect-metadata';
import { Body, CanActivate, Controller, ExecutionContext, ForbiddenException, Get, HttpCode, Injectable, Module, Post, Req, SetMetadata, UnauthorizedException, UseGuards } from '@nestjs/common';
import { NestFactory, Reflector } from '@nestjs/core';
import * as session from 'express-session';
import * as connectRedis from 'connect-redis';
import Redis from 'ioredis';

interface User { userId: number; username: string; roles: string[] }

const users: Record<string, User & { password: string }> = {
  ada: { userId: 42, username: 'ada', roles: ['admin', 'user'], password: 'correct horse' },
  bob: { userId: 7, username: 'bob', roles: ['user'], password: 'battery staple' },
};

const Roles = (...roles: string[]) => SetMetadata('roles', roles);

@Injectable()
class SessionGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const user: User | undefined = context.switchToHttp().getRequest().session.user;
    if (!user) throw new UnauthorizedException();
    const needed = this.reflector.get<string[]>('roles', context.getHandler()) ?? [];
    if (!needed.every((role) => user.roles.includes(role))) throw new ForbiddenException();
    return true;
  }
}

@Controller('auth')
class AuthController {
  @Post('login')
  @HttpCode(200)
  login(@Body() body: { username: string; password: string }, @Req() request: any) {
    const found = users[body.username];
    if (!found || found.password !== body.password) throw new UnauthorizedException();
    const { password, ...user } = found;
    request.session.user = user;
    return { username: user.username };
  }

  @Post('logout')
  @HttpCode(204)
  logout(@Req() request: any): Promise<void> {
    return new Promise((resolve, reject) => request.session.destroy((error: unknown) => (error ? reject(error) : resolve())));
  }
}

@Controller()
@UseGuards(SessionGuard)
class PagesController {
  @Get('profile')
  profile(@Req() request: any) { return { user: request.session.user, headers: request.headers }; }

  @Get('admin/report')
  @Roles('admin')
  report(@Req() request: any) { return { report: 'all is well', headers: request.headers }; }
}

@Module({ controllers: [AuthController, PagesController], providers: [SessionGuard] })
class AppModule {}

async function main() {
  const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
  const client = new Redis(process.env.REDIS!).on('error', () => undefined);
  const RedisStore = connectRedis(session);
  app.use(session({ store: new RedisStore({ client: client as any }), secret: process.env.SECRETS!.split(','), resave: false, saveUninitialized: false }));
  await app.listen(0, '127.0.0.1');
  console.log(`listening ${new URL(await app.getUrl()).host}`);
}
main();
