import 'reflect-metadata';
import { Controller, Get, Module, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Fields, Optional, Roles, SessionGuard, SessionUser, User } from './session.guard';

@Controller(['nest/optional', 'nest/required'])
@UseGuards(SessionGuard)
@Fields('tenant')
class Pages {
  @Optional() @Get('whoami')
  whoami(@User() user: SessionUser | null) { return JSON.stringify(user); }

  @Get('signed-in')
  signedIn(@User() user: SessionUser) { return JSON.stringify(user); }

  @Roles('admin') @Get('admin')
  admin(@User() user: SessionUser) { return JSON.stringify(user); }
}

@Module({ controllers: [Pages] })
class Application {}

export async function startNest(address: string): Promise<void> {
  const [host, port] = address.split(':');
  const app = await NestFactory.create(Application, { logger: ['error'] });
  await app.listen(+port, host);
}
